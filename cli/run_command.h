// `run` and what is built on it: one prompt to a completion, in a new session
// or after a stored one.

#ifndef PYRAMIDKV_CLI_RUN_COMMAND_H_
#define PYRAMIDKV_CLI_RUN_COMMAND_H_

#include <span>
#include <string>

#include "cli/options.h"
#include "cli/prompt_input.h"
#include "pyramidkv/status.h"

namespace pyramidkv::cli {

struct RunFlags {
  ModelFlags model;
  CacheFlags cache;
  GenerationFlags generation;
  TemplateFlags chat_template;
  PromptFlags prompt;
  std::string prompt_tokens_file, force_tokens_file;
  std::string trace_file, logits_file;
  std::string load_file, save_file;  // sessions
  std::string prompt_cache_file;     // read if it fits, then written
  bool prompt_cache_read_only = false;
  std::string save_name = "--save-session";  // of save_file, for messages
  bool chat = false, no_chat = false;
  // Takes the chat template where the file has one, sets `from` where `keep` is
  // the budget, and ends loops: `run` does.
  bool for_people = false;
  bool many = false;  // prompts: each document says its own
  bool json = false;
  bool force = false;  // replaces files of others
  int logprobs = -1;
};

// All flags of `run` but those that name sessions.
void AddRunFlags(CLI::App* app, RunFlags* flags);
void AddSaveSession(CLI::App* app, std::string* path);

Status RunPrompt(const RunFlags& flags);

// The same for each of `questions`, with model and session loaded once: every
// one is asked of a fork of the stored session.
// REQUIRES: flags name a session to load, no prompt and no files to write.
Status RunQuestions(RunFlags flags, std::span<const std::string> questions);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_RUN_COMMAND_H_
