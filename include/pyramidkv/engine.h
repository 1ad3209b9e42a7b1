// Engine and Session: a model loaded once, and contexts read into compressed
// KV caches.
//
//   PKV_ASSIGN_OR_RETURN(auto engine, Engine::Load({.model_path = model}));
//   PKV_ASSIGN_OR_RETURN(auto session,
//                        engine->NewSession({.kv = "snapkv-wide,keep=0.3"}));
//   const std::vector<ChatMessage> chat = {{"user", question}};
//   PKV_ASSIGN_OR_RETURN(auto text, engine->RenderChat(chat, {}));
//   PKV_ASSIGN_OR_RETURN(auto prompt, engine->TokenizeChat(text, true));
//   PKV_RETURN_IF_ERROR(session->Read(prompt, {}));  // then it is compressed
//   PKV_ASSIGN_OR_RETURN(auto answer, session->Generate({.max_tokens = 64}));
//
// Whole programs: examples/.
//
// Thread safety: an Engine, its sessions and its batches compute in one thread
// at a time, whichever it is. From any thread, at any time: the const functions
// of Engine, and what batch.h says of Submit and Cancel. An Engine outlives its
// sessions and batches, which may end in any order.

#ifndef PYRAMIDKV_ENGINE_H_
#define PYRAMIDKV_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pyramidkv/kv_report.h"
#include "pyramidkv/status.h"

namespace pyramidkv {

class Batch;          // pyramidkv/batch.h
struct BatchOptions;  // pyramidkv/batch.h

// Arithmetic of the matrix products. kF32: everything in f32 (the reference
// of the parity tests). Else generated rows are multiplied with the quantised
// weights as they are, and prompt rows too, in 8 bits (kInt8), or in bf16 with
// f32 sums (kBf16). kAuto: kInt8 where the CPU has AVX2 or AVX-512 VNNI, else
// kBf16, which multiplies in f32 where the CPU has no products of bf16.
enum class Compute { kAuto, kF32, kBf16, kInt8 };

// "auto", "f32", "bf16", "int8".
const char* ComputeName(Compute compute);

struct EngineOptions {
  std::string model_path;
  int threads = 0;  // 0: as many as this process may run at once
  Compute compute = Compute::kAuto;
  // Where caches with remainder=offload put their files. Empty: the system's
  // directory for such files.
  std::string offload_directory = {};
  // Where what is measured once per model (index=skew) is kept if it cannot be
  // beside the model. Empty: nowhere.
  std::string cache_directory = {};
};

struct ModelInfo {
  std::string path;
  std::string name;  // general.name, or the file's stem
  std::string architecture;
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int context_length = 0;  // that it was trained with
  int vocabulary = 0;
  int64_t parameters = 0;
  int64_t file_bytes = 0;
};

struct TokenizeOptions {
  bool add_special = true;    // BOS, as the model says; never a second one
  bool parse_special = true;  // "<|im_start|>" is one control token
};

struct ChatMessage {
  std::string role;  // system, user, assistant or tool
  std::string content;
};

// How messages become a prompt; by the model's own template, unless `name` or
// `source` is given.
struct ChatOptions {
  std::string name = {};    // of a built-in template, or
  std::string source = {};  // a template, in Jinja
  // A JSON object of variables that the template reads, such as
  // {"enable_thinking": false}; tools and documents, too.
  std::string kwargs = {};
  bool add_assistant = true;   // end with the header of the answer
  bool parse_special = false;  // control tokens in messages are such
};

// A chat as its template writes it.
struct ChatText {
  std::string text;
  // Ascending ranges [first, second) of bytes that messages say, not the
  // template: control tokens there are text. Empty with parse_special.
  std::vector<std::pair<size_t, size_t>> said = {};

  ChatText From(size_t offset) const;  // its end, from a byte on
};

// Names and defaults of llama.cpp's flags. temp <= 0 is greedy.
struct SamplingOptions {
  float temp = 0.0f;
  int top_k = 40;
  float top_p = 0.95f;
  float min_p = 0.05f;
  float repeat_penalty = 1.0f;
  int repeat_last_n = 64;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint32_t seed = 0;
};

struct SessionOptions {
  std::string kv = "full";  // cache spec (docs/cache-spec.md)
  int context_size = 0;     // 0: the model's
  // Entries to leave room for where `memory` limits the cache; < 0:
  // unbounded.
  int max_new_tokens = -1;
};

// For a stored session, in place of what it was saved with.
struct LoadOptions {
  int context_size = 0;                              // 0: as saved
  std::optional<int> max_new_tokens = std::nullopt;  // none: as saved
};

// Called between tiles of work with rows-times-layers done and in all.
// Returning false stops the call with StatusCode::kCancelled.
using Progress = std::function<bool(int64_t done, int64_t total)>;

struct TokenLogprob {
  int id = 0;
  float logprob = 0;
};

struct GeneratedToken {
  int id = 0;
  float logprob = 0;  // natural logarithm, before sampling filters; with
                      // GenerateOptions::logprobs >= 0 only
  std::vector<TokenLogprob> top;  // as many as `logprobs` asked for
};

struct GenerateOptions {
  int max_tokens = -1;  // < 0: until the end of the answer or of the context
  bool ignore_eos = false;
  // Text that ends the answer and is not returned. The name of a control token
  // ("<|im_end|>") stands for the token, which shows no text otherwise.
  std::vector<std::string> stop = {};
  // Ends an answer whose newest 128 tokens or more are the same part of at most
  // 256 tokens, four times or more. Never with ignore_eos or forced tokens.
  bool stop_loops = false;
  std::vector<int> forced = {};  // ids to decode instead of sampling
  int logprobs = -1;             // >= 0: fill GeneratedToken::top
  SamplingOptions sampling = {};
  // Called with each piece of text as it is certain (a prefix of a stop
  // string or of a UTF-8 character is held back). May be empty.
  std::function<void(std::string_view piece)> on_text = {};
  // Called with each token as it is chosen, before its text. May be empty.
  std::function<void(const GeneratedToken& token)> on_token = {};
  // Called with the logits [vocabulary] that each token is chosen from, from
  // the last prompt token's on; with forced tokens also with those after the
  // last one. False stops with kRuntime. May be empty.
  std::function<bool(std::span<const float> logits)> on_logits = {};
  const std::atomic<bool>* cancel = nullptr;  // looked at before every token
};

struct Generation {
  std::string text;
  std::vector<GeneratedToken> tokens;
  std::string finish_reason;  // stop, length or cancelled
  // In more detail: eos, stop (a stop string), loop (stop_loops), limit
  // (max_tokens), context_full or cancelled.
  std::string stop_reason;
  double first_token_ms = 0;  // from the call to the first sampled token
  double decode_ms = 0;       // from the first sampled token to the last
};

class Session {
 public:
  virtual ~Session() = default;

  // Reads `tokens` after what was read before and compresses the cache. The
  // first call is the exact prefill; later ones extend the compressed cache.
  // On error or cancellation the session is as it was before a first call,
  // and unusable (every call fails) after a later one.
  // Errors: kDoesNotFit past the context size or below the least budget.
  virtual Status Read(std::span<const int> tokens,
                      const Progress& progress) = 0;

  // Answers from what was read. REQUIRES: a successful Read. A sampled token
  // enters the cache when its successor is asked for: the last one returned
  // is not in it yet (position() tells what is).
  virtual Result<Generation> Generate(const GenerateOptions& options) = 0;

  // Decodes `tokens` as if they had been generated and returns the logits
  // after each, [tokens.size(), vocabulary], row-major (teacher forcing).
  virtual Result<std::vector<float>> Force(std::span<const int> tokens) = 0;

  // The logits [vocabulary] after the last token read or decoded.
  virtual std::span<const float> logits() const = 0;

  virtual int position() const = 0;  // tokens seen so far
  // [position()] their ids.
  virtual std::span<const int> tokens() const = 0;
  virtual int context_size() const = 0;
  virtual KvReport Report() const = 0;

  // Writes all that is needed to go on to `path`, in place of what was there:
  // whatever happens meanwhile, a file of that name is the old one or the new
  // one, whole. Nothing of an answer's sampling is stored: each Generate
  // starts with its own seed and an empty window of penalties.
  // Errors: kUsage if nothing was read, or `path` is not a regular file;
  // kRuntime if it cannot be written (the old file stays), or after an error
  // that made the session unusable.
  virtual Status Save(const std::string& path) = 0;

  // A second session that goes on from here, to the bit as this one would.
  // Neither notices what the other does, and they end in any order. Memory is
  // shared until one side writes: a fork costs its lists, one page of each KV
  // head that it appends to, and of a cold tier the index. Entries that leave
  // later go into a file of its own; the shared file stays until the last of
  // its readers ends. Report().peak_bytes counts on from here. The trace is not
  // taken over. Errors: kRuntime after an error that made this session
  // unusable, or without memory or files.
  virtual Result<std::unique_ptr<Session>> Fork() = 0;

  // One JSON line per compaction of a KV head (docs/json.md) goes to `sink`.
  virtual void SetTrace(std::function<void(std::string_view line)> sink) = 0;
};

// All that Engine::Load says of a file, without making its weights ready.
// Errors: kModel, as there.
Result<ModelInfo> ReadModelInfo(const std::string& model_path);

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> Load(const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const ModelInfo& info() const = 0;
  virtual Compute compute() const = 0;  // never kAuto: what it became
  virtual int threads() const = 0;

  virtual Result<std::vector<int>> Tokenize(
      std::string_view text, const TokenizeOptions& options) const = 0;
  virtual std::string Detokenize(std::span<const int> tokens) const = 0;
  virtual bool IsEndOfGeneration(int token) const = 0;
  virtual bool has_chat_template() const = 0;  // the file's own
  // Templates are programs of strangers: this one runs in a process of its own
  // with bounded time, memory, stack and output.
  // Errors: kUsage for a name, role, message or kwargs that cannot be; kModel
  // for a template that is missing, raises, or passes a bound.
  virtual Result<ChatText> RenderChat(std::span<const ChatMessage> messages,
                                      const ChatOptions& options) const = 0;
  // The ids of a rendered chat. add_special: with BOS where the model wants it
  // and the template did not write it. Errors: kUsage, as Tokenize.
  virtual Result<std::vector<int>> TokenizeChat(const ChatText& chat,
                                                bool add_special) const = 0;

  // Faults of the file that do no harm, a sentence each.
  virtual std::span<const std::string> warnings() const = 0;

  virtual Result<std::unique_ptr<Session>> NewSession(
      const SessionOptions& options) = 0;

  // A session as Session::Save stored it. It goes on as the stored one would
  // have, to the bit, with the same Compute on the same kind of CPU and no
  // options given. The file is checked as a whole, even where its checksums
  // are right, before there is a session.
  // Errors: kModel if the file is missing, unreadable, damaged, of another
  // version or another model (says what differs); kDoesNotFit if a smaller
  // context_size is asked for than it fills; kRuntime without memory.
  virtual Result<std::unique_ptr<Session>> LoadSession(
      const std::string& path, const LoadOptions& options) = 0;

  // One exact prefill that fills the caches of several new sessions, each by
  // its own spec. REQUIRES: none of them has read anything.
  virtual Status ReadShared(std::span<const int> tokens,
                            std::span<Session* const> sessions,
                            const Progress& progress) = 0;

  // One decode step of several sessions: sessions[i] appends tokens[i] and
  // then has new logits. A session may not appear twice. After an error the
  // sessions that it befell are unusable, and the others have gone on; the
  // first one's is returned.
  virtual Status DecodeBatch(std::span<Session* const> sessions,
                             std::span<const int> tokens) = 0;

  // Many requests at once, a step at a time (batch.h). Errors: kUsage.
  virtual Result<std::unique_ptr<Batch>> NewBatch(
      const BatchOptions& options) = 0;
};

}  // namespace pyramidkv

#endif  // PYRAMIDKV_ENGINE_H_
