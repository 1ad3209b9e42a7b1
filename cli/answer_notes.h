// Lines for people about an answer: why it ended, and what would work where a
// prompt does not fit.

#ifndef PYRAMIDKV_CLI_ANSWER_NOTES_H_
#define PYRAMIDKV_CLI_ANSWER_NOTES_H_

#include <string>

#include "pyramidkv/engine.h"

namespace pyramidkv::cli {

// Why the answer ended, and how to get another end; "" where the model ended
// it after having written something.
std::string EndNote(const Generation& generation, int context_size);

// Where contexts are longer than what the model was trained with; "" else.
std::string TrainedNote(const ModelInfo& model, int context_size,
                        int64_t tokens);

// A prompt that does not fit: its length, and commands that would take it.
struct LongPrompt {
  int64_t tokens = 0;
  int context_size = 0;
  int trained = 0;      // of the model
  std::string command;  // "pyramidkv run -f doc.txt -p ..."
};
std::string TooLongNote(const LongPrompt& prompt);

}  // namespace pyramidkv::cli

#endif  // PYRAMIDKV_CLI_ANSWER_NOTES_H_
