#include "cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <numeric>
#include <optional>

#include "cli/foreign_flags.h"

namespace pyramidkv::cli {
namespace {

bool IsNumber(std::string_view word) {
  double value = 0;
  const auto [end, error] =
      std::from_chars(word.data(), word.data() + word.size(), value);
  return !word.empty() && error == std::errc() &&
         end == word.data() + word.size();
}

bool LooksLikeFlag(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !IsNumber(word);
}

bool TakesValue(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// Letters that have to be put in, taken out, exchanged or swapped.
int Distance(std::string_view a, std::string_view b) {
  std::vector<int> before(b.size() + 1), last, row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int exchange = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, exchange});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

// All spellings of all flags of a command, llama.cpp's with them.
std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_snames()) names.push_back("-" + name);
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  for (const ForeignFlag& flag : ForeignFlags()) {
    if (flag.action == ForeignAction::kRefuse) continue;
    std::string_view rest = flag.names;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('|'), rest.size());
      names.emplace_back(rest.substr(0, end));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return names;
}

// The commands, but for `app`, that have the flag: " (a flag of eval)".
std::string Elsewhere(const CLI::App& root, const CLI::App& app,
                      const std::string& name) {
  std::vector<std::string> commands;
  for (const CLI::App* other : root.get_subcommands({})) {
    if (other == &app || other->get_group().empty()) continue;
    if (other->get_option_no_throw(name) != nullptr) {
      commands.push_back(other->get_name());
    }
  }
  if (commands.empty()) return "";
  return fmt::format("; it is a flag of {}", fmt::join(commands, ", "));
}

// One command line on its way through.
class Translation {
 public:
  Translation(const CLI::App& root, const CLI::App& app,
              const std::vector<std::string>& args)
      : root_(root), app_(app), args_(args) {}

  Result<std::vector<std::string>> Run();

 private:
  Status Flag(const std::string& word);
  Status Foreign(const ForeignFlag& flag, const std::string& word);
  // The number behind the flag, or attached to it.
  Result<std::string> Number(const std::string& word);
  Status ZeroAlone(const ForeignFlag& flag, const std::string& word);
  Status Default(const ForeignFlag& flag, const std::string& word);
  // Puts the flag in, and the word behind it where it takes a value.
  void Known(const CLI::Option& option, const std::string& word);
  Status Unknown(const std::string& word) const;
  const CLI::Option* Find(const std::string& name) const {
    return app_.get_option_no_throw(name);
  }
  void UnescapeTexts();

  const CLI::App& root_;
  const CLI::App& app_;
  const std::vector<std::string>& args_;
  size_t at_ = 0;
  std::vector<std::string> first_;  // defaults: what comes later beats them
  std::vector<std::string> out_;
  std::vector<size_t> texts_;  // values in out_ that -e is about
  bool escape_ = false;
};

std::string NameOf(const std::string& word) {
  return word.substr(0, word.starts_with("--") ? word.find('=') : word.npos);
}

// The value in "--name=value".
std::optional<std::string> AttachedValue(const std::string& word) {
  const size_t equals = word.find('=');
  if (!word.starts_with("--") || equals == word.npos) return std::nullopt;
  return word.substr(equals + 1);
}

Result<std::vector<std::string>> Translation::Run() {
  while (at_ < args_.size()) {
    const std::string word = args_[at_++];
    if (word == "--") {
      out_.insert(out_.end(), args_.begin() + at_ - 1, args_.end());
      break;
    }
    if (LooksLikeFlag(word)) {
      PKV_RETURN_IF_ERROR(Flag(word));
    } else {
      out_.push_back(word);
    }
  }
  if (escape_) UnescapeTexts();
  first_.insert(first_.end(), out_.begin(), out_.end());
  return first_;
}

Status Translation::Flag(const std::string& given) {
  std::string word = given;
  for (const ShortName& s : ShortNames()) {
    if (word == s.name) word = s.flag;
  }
  if (const CLI::Option* option = Find(NameOf(word))) {
    Known(*option, word);
    return {};
  }
  const ForeignFlag* foreign = FindForeignFlag(NameOf(given), app_.get_name());
  if (foreign != nullptr) return Foreign(*foreign, given);
  // "-n32", but not "-ngl".
  const CLI::Option* letter =
      word[1] == '-' ? nullptr : Find(word.substr(0, 2));
  if (letter == nullptr || !TakesValue(*letter) || !IsNumber(word.substr(2))) {
    return Unknown(given);
  }
  out_.push_back(word.substr(0, 2));
  out_.push_back(word.substr(2));
  return {};
}

void Translation::Known(const CLI::Option& option, const std::string& word) {
  out_.push_back(word);
  const bool attached = AttachedValue(word).has_value();
  if (TakesValue(option) && !attached && at_ < args_.size()) {
    out_.push_back(args_[at_++]);
  }
  if (option.get_type_name() == "TEXT") texts_.push_back(out_.size() - 1);
}

Status Translation::Foreign(const ForeignFlag& flag, const std::string& word) {
  switch (flag.action) {
    case ForeignAction::kRename:
    case ForeignAction::kRenameOrDrop: {
      const CLI::Option* option = Find(flag.text);
      if (option == nullptr) {
        const bool anyway = flag.action == ForeignAction::kRenameOrDrop;
        return anyway ? Status() : Unknown(word);
      }
      Known(*option, flag.text);
      return {};
    }
    case ForeignAction::kDefault:
      return Default(flag, word);
    case ForeignAction::kDropWord: {
      static constexpr std::array<std::string_view, 3> kWords = {"on", "off",
                                                                 "auto"};
      if (!AttachedValue(word) && at_ < args_.size() &&
          std::find(kWords.begin(), kWords.end(), args_[at_]) != kWords.end()) {
        ++at_;
      }
      return {};
    }
    case ForeignAction::kDropNumber:
      return Number(word).status();
    case ForeignAction::kZeroAlone:
      return ZeroAlone(flag, word);
    case ForeignAction::kEscape:
      escape_ = true;
      return {};
    case ForeignAction::kRefuse:
      return Status::Usage(fmt::format("{}: {}", NameOf(word), flag.text));
    case ForeignAction::kDrop:
      return {};
  }
  return {};
}

Result<std::string> Translation::Number(const std::string& word) {
  std::optional<std::string> value = AttachedValue(word);
  if (!value && at_ < args_.size()) value = args_[at_++];
  if (value && IsNumber(*value)) return *value;
  return Status::Usage(fmt::format("{} needs a number{}", NameOf(word),
                                   value ? ", not " + *value : ""));
}

Status Translation::ZeroAlone(const ForeignFlag& flag,
                              const std::string& word) {
  const Result<std::string> number = Number(word);
  if (number.ok() && *number == "0") return {};
  return Status::Usage(fmt::format(
      "{}{}: {}", NameOf(word), number.ok() ? " " + *number : "", flag.text));
}

Status Translation::Default(const ForeignFlag& flag, const std::string& word) {
  if (Find(flag.text) == nullptr) return Unknown(word);
  PKV_ASSIGN_OR_RETURN(std::string number, Number(word));
  first_.emplace_back(flag.text);
  first_.push_back(std::move(number));
  return {};
}

Status Translation::Unknown(const std::string& word) const {
  const std::string name = NameOf(word);
  std::string hint = Suggestion(name, FlagNames(app_));
  if (hint.empty()) hint = Elsewhere(root_, app_, name);
  const CLI::Option* letter =
      name[1] == '-' ? nullptr : Find(name.substr(0, 2));
  if (hint.empty() && letter != nullptr && TakesValue(*letter)) {
    hint =
        fmt::format("; did you mean {} {}?", name.substr(0, 2), name.substr(2));
  }
  return Status::Usage(fmt::format("unknown flag {}{}", name, hint));
}

void Translation::UnescapeTexts() {
  for (const size_t i : texts_) {
    const std::optional<std::string> value = AttachedValue(out_[i]);
    out_[i] = value && LooksLikeFlag(out_[i])
                  ? NameOf(out_[i]) + "=" + Unescape(*value)
                  : Unescape(out_[i]);
  }
}

}  // namespace

const std::vector<ShortName>& ShortNames() {
  static const std::vector<ShortName> names = {{"-ctk", "--cache-type-k"},
                                               {"-ctv", "--cache-type-v"},
                                               {"-np", "--parallel"},
                                               {"-sys", "--system-prompt"}};
  return names;
}

Result<std::vector<std::string>> TranslateArguments(
    const CLI::App& root, const CLI::App& app,
    const std::vector<std::string>& args) {
  return Translation(root, app, args).Run();
}

std::string Suggestion(std::string_view word,
                       const std::vector<std::string>& names) {
  // One letter of a short word, two of a longer one; the dashes are given.
  const size_t letters =
      word.size() - std::min<size_t>(word.find_first_not_of('-'), word.size());
  int least = letters < 3 ? 1 : letters < 6 ? 2 : 3;
  std::string best;
  for (const std::string& name : names) {
    const int distance = Distance(word, name);
    if (distance >= least || distance == 0) continue;
    least = distance;
    best = name;
  }
  // A word that was cut short, or the front part of one.
  for (const std::string& name : names) {
    if (best.empty() && letters >= 3 && name != word &&
        (name.starts_with(word) ||
         (name.size() > 5 && word.starts_with(name)))) {
      best = name;
    }
  }
  return best.empty() ? "" : fmt::format("; did you mean {}?", best);
}

std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    static constexpr std::string_view kLetters = "ntr\"'\\";
    static constexpr std::string_view kMeanings = "\n\t\r\"'\\";
    const size_t known = kLetters.find(text[i + 1]);
    unsigned byte = 0;
    const auto hex = text.substr(std::min(i + 2, text.size()), 2);
    if (known != kLetters.npos) {
      out += kMeanings[known];
      ++i;
    } else if (text[i + 1] == 'x' && hex.size() == 2 &&
               std::from_chars(hex.data(), hex.data() + 2, byte, 16).ptr ==
                   hex.data() + 2) {
      out += static_cast<char>(byte);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

void ApplyRules(CLI::App* app) {
  const CLI::Validator named(
      [](std::string& word) {
        return word.empty() ? std::string("the name of the file is empty")
                            : std::string();
      },
      "");
  for (CLI::Option* option : app->get_options()) {
    if (option->get_type_name() == "FILE") option->check(named);
    if (TakesValue(*option) && option->get_expected_max() <= 1) {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
  }
}

}  // namespace pyramidkv::cli
