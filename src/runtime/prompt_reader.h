// A prompt on its way into one session, or into several new ones at once: what
// Session::Read does, step by step, so that others can work in between.

#ifndef PYRAMIDKV_RUNTIME_PROMPT_READER_H_
#define PYRAMIDKV_RUNTIME_PROMPT_READER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "pyramidkv/status.h"
#include "runtime/prompt_pass.h"
#include "runtime/session.h"

namespace pyramidkv {

// Owns the memory of its passes. Between steps other readers may run, and the
// sessions may not be used.
//
// With prefill=streaming a prompt comes in chunks, each compressed before the
// next is read, so that memory is bounded by the budget and one chunk.
class PromptReader {
 public:
  // REQUIRES: tokens not empty, and checked (SessionImpl::CheckTokens); several
  // sessions have read nothing.
  PromptReader(const EngineParts& parts, std::span<SessionImpl* const> sessions,
               std::span<const int> tokens);
  // A prompt that is not complete leaves its sessions as Session::Read does on
  // an error: as they were before a first one, unusable after a later one.
  ~PromptReader();
  PromptReader(const PromptReader&) = delete;
  PromptReader& operator=(const PromptReader&) = delete;

  // Before the first step. Errors: those of PromptPass::Begin.
  Status Begin() { return BeginPart(); }

  // One step of a prompt pass; true when the prompt is complete and the
  // sessions have its logits. Not after an error.
  Result<bool> Step();

  // Rows times layers, of all parts. REQUIRES: begun, not complete.
  int64_t done() const;
  int64_t total() const;

 private:
  Status BeginPart();
  int64_t RowSteps() const;  // of one token of the part under way
  bool complete() const { return read_ == tokens_.size(); }

  const EngineParts parts_;
  std::vector<SessionImpl*> sessions_;
  std::vector<int> tokens_;
  std::vector<int> repeat_;  // asks for a repetition (KVzip), or empty
  size_t chunk_ = 0;         // tokens of a part
  size_t read_ = 0;          // tokens in complete parts
  size_t part_ = 0;          // tokens of the part under way
  bool first_ = false;       // the sessions had read nothing before
  int end_ = 0;              // position at the end of the prompt
  PromptWorkspace work_;
  std::optional<PromptPass> pass_;  // of the part under way
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_RUNTIME_PROMPT_READER_H_
