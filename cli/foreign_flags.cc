#include "cli/foreign_flags.h"

namespace pyramidkv::cli {
namespace {

using enum ForeignAction;

bool IsOneOf(std::string_view names, std::string_view name) {
  while (!names.empty()) {
    const size_t end = names.find('|');
    if (names.substr(0, end) == name) return true;
    names = end == names.npos ? "" : names.substr(end + 1);
  }
  return false;
}

}  // namespace

const std::vector<ForeignFlag>& ForeignFlags() {
  static const std::vector<ForeignFlag> flags = {
      {"-cnv|--conversation", "chat", kDrop},
      {"-cnv|--conversation", "", kRename, "--chat"},
      {"-no-cnv|--no-conversation", "chat", kRefuse,
       "chat is a conversation; pyramidkv run -p TEXT takes one prompt"},
      {"-no-cnv|--no-conversation", "", kRenameOrDrop, "--no-chat"},
      {"-st|--single-turn", "chat", kRefuse,
       "chat goes on until /exit; pyramidkv run -p TEXT asks once"},
      {"-st|--single-turn", "", kDrop},
      {"-i|--interactive|-if|--interactive-first", "chat", kDrop},
      {"-i|--interactive|-if|--interactive-first", "", kRefuse,
       "the conversation is pyramidkv chat"},
      {"--jinja|--no-mmap|--mmap", "", kDrop},
      {"--prompt-cache-all", "", kRefuse,
       "an answer is stored by --save-session FILE, a prompt by "
       "--prompt-cache"},
      {"-fa|--flash-attn", "", kDropWord},
      {"-b|--batch-size|-ub|--ubatch-size", "", kDropNumber},
      {"-tb|--threads-batch", "", kDefault, "--threads"},
      {"-e|--escape", "", kEscape},
      {"--no-escape", "", kDrop},
      {"--no-display-prompt", "", kDrop},
      {"-co|--color", "", kDropWord},
      {"--no-warmup|--warmup|--no-perf|--simple-io|--no-context-shift", "",
       kDrop},
      {"--context-shift", "", kRefuse,
       "a cache that forgets is a cache spec: --kv "
       "streaming-llm,tokens=2048,positions=renumber"},
      {"-ngl|--gpu-layers|--n-gpu-layers", "", kZeroAlone,
       "pyramidkv computes on the CPU alone; leave it out"},
      {"-hf|-hfr|--hf-repo|-hff|--hf-file|-mu|--model-url|-dr|--docker-repo",
       "", kRefuse,
       "pyramidkv downloads nothing; fetch the GGUF file, then give it with -m "
       "FILE"},
  };
  return flags;
}

const ForeignFlag* FindForeignFlag(std::string_view name,
                                   std::string_view command) {
  for (const ForeignFlag& flag : ForeignFlags()) {
    const std::string_view only = flag.command;
    if ((only.empty() || only == command) && IsOneOf(flag.names, name)) {
      return &flag;
    }
  }
  return nullptr;
}

}  // namespace pyramidkv::cli
