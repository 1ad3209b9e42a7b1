#include "eval/text_generator.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "eval/grammar.h"

namespace pyramidkv {
namespace {

bool IsVowel(char c) { return std::string_view("aeiou").find(c) != size_t(-1); }

// "a old" becomes "an old".
std::string FixArticles(const std::string& text) {
  std::string fixed;
  for (size_t i = 0; i < text.size(); ++i) {
    fixed += text[i];
    const bool word = i == 0 || std::isalpha(text[i - 1]) == 0;
    if (word && (text[i] == 'a' || text[i] == 'A') && i + 2 < text.size() &&
        text[i + 1] == ' ' && IsVowel(text[i + 2])) {
      fixed += 'n';
    }
  }
  return fixed;
}

}  // namespace

CountTokens CounterOf(const Engine& engine) {
  return [&engine](std::string_view text) {
    // Generated text is ASCII: it cannot be refused.
    const auto tokens =
        engine.Tokenize(text, {.add_special = false, .parse_special = false});
    return tokens.ok() ? static_cast<int>(tokens->size()) : 0;
  };
}

TextGenerator::TextGenerator(CountTokens count) : count_(std::move(count)) {
  for (const GrammarRule& rule : TextGrammar()) {
    std::vector<std::string>& choices = grammar_[std::string(rule.kind)];
    for (size_t at = 0; at <= rule.choices.size();) {
      const size_t end =
          std::min(rule.choices.find('|', at), rule.choices.size());
      choices.emplace_back(rule.choices.substr(at, end - at));
      at = end + 1;
    }
  }
}

std::string TextGenerator::Expand(std::string_view kind, Random* random) const {
  const std::vector<std::string>& choices = grammar_.find(kind)->second;
  const std::string_view pattern = choices[random->Below(std::ssize(choices))];
  std::string text;
  for (size_t at = 0; at < pattern.size();) {
    const size_t open = std::min(pattern.find('{', at), pattern.size());
    text += pattern.substr(at, open - at);
    if (open == pattern.size()) break;
    const size_t close = pattern.find('}', open);
    text += Expand(pattern.substr(open + 1, close - open - 1), random);
    at = close + 1;
  }
  return text;
}

std::string TextGenerator::Sentence(Random* random) const {
  std::string text = FixArticles(Expand("sentence", random));
  char& first = text[text[0] == '"' ? 1 : 0];
  first = static_cast<char>(std::toupper(first));
  return text;
}

// Behind a word, so that no tokenizer takes the piece for the beginning of a
// text (where some add a space).
int TextGenerator::Cost(std::string_view text) const {
  constexpr std::string_view kWord = "now";
  return count_(std::string(kWord) + std::string(text)) - count_(kWord);
}

// Paragraphs in the making: pieces are a sentence with what stands before it.
class TextGenerator::Filler {
 public:
  Filler(const TextGenerator& generator, int tokens, Random* random)
      : generator_(generator), random_(random), left_(tokens) {}

  std::string Fill() {
    while (Add(Draw(left_ < 2 * longest_ ? kDraws : 1))) {
    }
    return std::move(text_);
  }

 private:
  struct Piece {
    std::string text;
    int cost = 0;
  };
  static constexpr int kDraws = 100;

  // The longest of `draws` pieces that fits, at once if it fits exactly.
  // Towards the end there are many draws, so that little is left.
  Piece Draw(int draws) {
    Piece best;
    for (int i = 0; i < draws && best.cost < left_; ++i) {
      Piece piece;
      piece.text = sentences_ == 0 ? '\n' : ' ';
      piece.text += generator_.Sentence(random_);
      piece.cost = generator_.Cost(piece.text);
      longest_ = std::max(longest_, piece.cost);
      // The first ones show how long sentences are.
      if (piece.cost > left_ && draws == 1) draws = kDraws;
      if (piece.cost <= left_ && piece.cost > best.cost) best = piece;
    }
    return best;
  }

  // False if the piece is none.
  bool Add(const Piece& piece) {
    if (piece.cost == 0) return false;
    text_ += piece.text;
    left_ -= piece.cost;
    if (sentences_ == 0) paragraph_ = 3 + static_cast<int>(random_->Below(6));
    if (++sentences_ == paragraph_) sentences_ = 0;
    return left_ > 0;
  }

  const TextGenerator& generator_;
  Random* random_;
  int left_;
  int longest_ = 0;
  int sentences_ = 0;  // of this paragraph, so far
  int paragraph_ = 0;  // sentences it will have
  std::string text_;
};

std::string TextGenerator::Paragraphs(int tokens, Random* random) const {
  return tokens > 0 ? Filler(*this, tokens, random).Fill() : std::string();
}

}  // namespace pyramidkv
