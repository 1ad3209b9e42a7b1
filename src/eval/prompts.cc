#include "eval/prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <utility>

namespace pyramidkv {
namespace {

constexpr std::string_view kIntro =
    "There is an important piece of information hidden inside a lot of "
    "irrelevant text. Find it and memorize it.";
constexpr int kDigits = 5;
constexpr int kLongDigits = 12;
constexpr size_t kNamedKeys = 6;
constexpr std::array<std::string_view, 12> kCities = {
    "Rome",   "Paris", "Cairo",  "Tokyo", "Berlin", "Madrid",
    "London", "Delhi", "Boston", "Lima",  "Oslo",   "Vienna"};
constexpr std::array<std::string_view, 12> kColours = {
    "red",   "blue",  "green", "yellow", "purple", "orange",
    "black", "white", "brown", "pink",   "grey",   "silver"};
constexpr std::array<std::string_view, 14> kFruits = {
    "apple", "banana", "orange", "lemon", "cherry",     "peach", "grape",
    "pear",  "mango",  "plum",   "lime",  "strawberry", "fig",   "melon"};

std::string Number(int digits, Random* random) {
  std::string text(1, static_cast<char>('1' + random->Below(9)));
  while (std::ssize(text) < digits) {
    text += static_cast<char>('0' + random->Below(10));
  }
  return text;
}

// The first `count` of the items in random order.
template <typename Items>
std::vector<std::string> PickSeveral(const Items& items, size_t count,
                                     Random* random) {
  std::vector<std::string> all(std::begin(items), std::end(items));
  for (size_t i = 0; i < count; ++i) {
    const auto left = static_cast<int64_t>(all.size() - i);
    std::swap(all[i], all[i + random->Below(left)]);
  }
  all.resize(count);
  return all;
}

// A question and the facts of its context; the first one answers it.
struct Puzzle {
  std::vector<Fact> facts;
  Prompt prompt;  // without its context
};

// Keys of different colours; the first one is asked for. None of seven
// wordings tried on the full cache of the default model did better: 8 of 12,
// where keys named after cities or people got 5 to 7.
Puzzle NamedKeys(double depth, Random* random) {
  Puzzle puzzle;
  const auto colours = PickSeveral(kColours, kNamedKeys, random);
  for (const std::string& colour : colours) {
    const std::string number = Number(kDigits, random);
    const bool asked = puzzle.facts.empty();
    if (asked) puzzle.prompt.expected = number;
    puzzle.facts.push_back(
        {fmt::format("The {} pass key is {}. Remember it.", colour, number),
         asked ? depth : random->Unit()});
  }
  puzzle.prompt.question =
      fmt::format("\n\nWhat is the {} pass key?\n", colours[0]);
  puzzle.prompt.prefix = fmt::format("The {} pass key is ", colours[0]);
  return puzzle;
}

Puzzle OneKey(EvalVariant variant, double depth, Random* random) {
  const bool is_long = variant == EvalVariant::kLong;
  const std::string number = Number(is_long ? kLongDigits : kDigits, random);
  const std::string fact =
      variant == EvalVariant::kRev
          ? fmt::format("Remember the number {}, because it is the pass key.",
                        number)
          : fmt::format("The pass key is {}. Remember it.", number);
  Puzzle puzzle;
  puzzle.facts = {{fact, depth}};
  puzzle.prompt.question = "\n\nWhat is the pass key?\n";
  puzzle.prompt.prefix = "The pass key is ";
  puzzle.prompt.expected = number;
  return puzzle;
}

// A fruit of one token, if the vocabulary has any.
Puzzle BestFruit(const TextGenerator& generator, double depth, Random* random) {
  std::vector<std::string_view> fruits;
  for (const std::string_view fruit : kFruits) {
    if (generator.Cost(fmt::format(" {}", fruit)) == 1) fruits.push_back(fruit);
  }
  if (fruits.empty()) fruits.assign(kFruits.begin(), kFruits.end());
  const std::string fruit = PickSeveral(fruits, 1, random)[0];
  const std::string city = PickSeveral(kCities, 1, random)[0];
  const std::string words =
      fmt::format("The best fruit to eat in {} is the", city);
  Puzzle puzzle;
  puzzle.facts = {{fmt::format("{} {}.", words, fruit), depth}};
  puzzle.prompt.question =
      fmt::format("\n\nWhat is the best fruit to eat in {}?\n", city);
  puzzle.prompt.prefix = words;
  puzzle.prompt.expected = fruit;
  return puzzle;
}

Puzzle MakePuzzle(const TextGenerator& generator, const EvalOptions& options,
                  double depth, Random* random) {
  if (options.task == EvalTask::kNeedle) {
    return BestFruit(generator, depth, random);
  }
  if (options.variant == EvalVariant::kMulti) return NamedKeys(depth, random);
  return OneKey(options.variant, depth, random);
}

// `filler` tokens around the facts, which are in order of depth.
std::string Compose(const TextGenerator& generator,
                    const std::vector<Fact>& facts, int filler, Random random) {
  std::string text(kIntro);
  int used = 0;
  for (const Fact& fact : facts) {
    const auto end = static_cast<int>(std::lround(fact.depth * filler));
    const std::string part = generator.Paragraphs(end - used, &random);
    text += part + "\n" + fact.text;
    used += generator.Cost(part);
  }
  return text + generator.Paragraphs(filler - used, &random);
}

}  // namespace

double DepthOfTrial(const EvalOptions& options, int trial) {
  if (!options.depths.empty()) {
    return options.depths[trial % options.depths.size()];
  }
  constexpr double kGoldenRatio = 0.6180339887498949;
  const double depth = 0.5 + kGoldenRatio * trial;
  return depth - std::floor(depth);
}

Result<std::string> HideFacts(const TextGenerator& generator,
                              std::vector<Fact> facts, int tokens,
                              Random random) {
  std::stable_sort(
      facts.begin(), facts.end(),
      [](const Fact& a, const Fact& b) { return a.depth < b.depth; });
  int filler = tokens - generator.Cost(kIntro);
  for (const Fact& fact : facts) filler -= generator.Cost("\n" + fact.text);
  if (filler < 0) {
    return Status::Usage(fmt::format(
        "a context of {} tokens is too short: the task itself takes {}", tokens,
        tokens - filler));
  }
  // Pieces may join where they meet (".\n" is one token of some models), so
  // the whole is measured, and the filler corrected by what it is off.
  constexpr int kCorrections = 4;
  constexpr int kNear = 3;
  std::string best;
  int least = tokens;
  for (int i = 0; i < kCorrections && least > kNear; ++i) {
    std::string text = Compose(generator, facts, filler, random);
    const int off = tokens - generator.Cost(text);
    filler = std::max(0, filler + off);
    if (i > 0 && std::abs(off) >= least) continue;
    best = std::move(text);
    least = std::abs(off);
  }
  return best;
}

Result<Prompt> MakePrompt(const TextGenerator& generator,
                          const EvalOptions& options, int trial) {
  Random random(options.seed, trial);
  const double depth = DepthOfTrial(options, trial);
  Puzzle puzzle = MakePuzzle(generator, options, depth, &random);
  puzzle.prompt.depth = depth;
  PKV_ASSIGN_OR_RETURN(
      puzzle.prompt.context,
      HideFacts(generator, std::move(puzzle.facts), options.tokens, random));
  return std::move(puzzle.prompt);
}

std::string MakeText(const TextGenerator& generator, int tokens,
                     const EvalOptions& options, int trial) {
  Random random(options.seed, trial);
  std::string text = generator.Sentence(&random);
  // An eighth more than the sum of the parts, which may join.
  text += generator.Paragraphs(tokens + tokens / 8, &random);
  return text;
}

}  // namespace pyramidkv
