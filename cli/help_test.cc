#include "cli/help.h"

#include <algorithm>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/version.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pyramidkv/plan.h"

namespace pyramidkv::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// As a shell splits it; the examples quote with "" alone.
std::vector<std::string> Words(std::string_view line) {
  std::vector<std::string> words(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ' ' && !quoted) {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

TEST(ExamplesTest, EveryCommandHasSomeThatParse) {
  CLI::App root;
  for (const Command& command :
       {AddRunCommand(root), AddChatCommand(root), AddPlanCommand(root),
        AddBenchCommand(root), AddEvalCommand(root), AddSessionCommand(root),
        AddModelsCommand(root), AddDoctorCommand(root)}) {
    const auto examples = Examples(command.app->get_name());
    EXPECT_THAT(examples, Not(IsEmpty())) << command.app->get_name();
    for (const std::string_view line : examples) {
      std::vector<std::string> words = Words(line);
      EXPECT_EQ(words[0], command.app->get_name());
      words.erase(words.begin());
      auto args = TranslateArguments(root, *command.app, words);
      ASSERT_TRUE(args.ok()) << args.status().message();
      std::reverse(args->begin(), args->end());
      EXPECT_NO_THROW(command.app->parse(*args)) << line;
    }
  }
  AddExamples(&root);
  for (const CLI::App* command : root.get_subcommands({})) {
    EXPECT_THAT(command->help(),
                HasSubstr("Examples:\n  pyramidkv " + command->get_name()));
  }
}

TEST(HelpFormatTest, SpacesStandBetweenNames) {
  CLI::App root;
  root.formatter(HelpFormat());
  const Command run = AddRunCommand(root);
  EXPECT_THAT(run.app->help(), HasSubstr("  -m, --model FILE "));
  EXPECT_THAT(run.app->help(), HasSubstr("  --temp, --temperature N=0 "));
  EXPECT_THAT(run.app->help(), Not(HasSubstr("DIR:DIR")));
}

TEST(PresetTableTest, HasALineForEach) {
  const std::string table = PresetTable();
  for (const std::string& name : PresetNames()) {
    EXPECT_THAT("\n" + table, HasSubstr("\n" + name + " "));
  }
  EXPECT_EQ(static_cast<size_t>(std::count(table.begin(), table.end(), '\n')),
            PresetNames().size());
}

TEST(VersionTextTest, NamesCommitKernelsAndLibraries) {
  const std::string text = VersionText();
  EXPECT_THAT(text, testing::StartsWith("pyramidkv " + Version() + " ("));
  EXPECT_THAT(text, HasSubstr(Commit()));
  for (const char* name : {"kernels", "llama.cpp", "ggml", "oneDNN"}) {
    EXPECT_THAT(text, HasSubstr(name));
  }
}

}  // namespace
}  // namespace pyramidkv::cli
