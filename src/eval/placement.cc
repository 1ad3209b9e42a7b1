#include "eval/placement.h"

#include <algorithm>
#include <string>

namespace pyramidkv {

Result<std::vector<int>> TokenizeBeginning(const Engine& engine,
                                           std::string_view text) {
  constexpr std::string_view kProbe = "a";
  constexpr TokenizeOptions kPlain{.add_special = false,
                                   .parse_special = false};
  PKV_ASSIGN_OR_RETURN(
      std::vector<int> tokens,
      engine.Tokenize(kProbe, {.add_special = true, .parse_special = false}));
  PKV_ASSIGN_OR_RETURN(const std::vector<int> probe,
                       engine.Tokenize(kProbe, kPlain));
  tokens.erase(
      std::search(tokens.begin(), tokens.end(), probe.begin(), probe.end()),
      tokens.end());
  PKV_ASSIGN_OR_RETURN(const std::vector<int> body,
                       engine.Tokenize(text, kPlain));
  tokens.insert(tokens.end(), body.begin(), body.end());
  return tokens;
}

Result<PlacedPrompt> PlacePrompt(const Engine& engine, const Prompt& prompt,
                                 EvalPlacement placement) {
  std::string read = prompt.context;
  if (placement != EvalPlacement::kAgnostic) read += prompt.question;
  if (placement == EvalPlacement::kWhole) read += prompt.prefix;
  PKV_ASSIGN_OR_RETURN(
      const std::vector<int> whole,
      TokenizeBeginning(engine,
                        prompt.context + prompt.question + prompt.prefix));
  PKV_ASSIGN_OR_RETURN(const std::vector<int> part,
                       TokenizeBeginning(engine, read));
  const auto same =
      std::mismatch(whole.begin(), whole.end(), part.begin(), part.end()).first;
  // The last token is forced in any case: an answer to a token that was read
  // would not come through the compressed cache.
  const auto split = std::min(same, whole.end() - 1);
  return PlacedPrompt{{whole.begin(), split}, {split, whole.end()}};
}

}  // namespace pyramidkv
