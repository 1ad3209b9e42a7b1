#include "cli/arguments.h"

#include "cli/foreign_flags.h"
#include "cli/options.h"
#include "cli/output_check.h"
#include "cli/run_command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Words = std::vector<std::string>;

class ArgumentsTest : public testing::Test {
 protected:
  ArgumentsTest() {
    run_ = root_.add_subcommand("run", "");
    AddRunFlags(run_, &run_flags_);
    chat_ = root_.add_subcommand("chat", "");
    eval_ = root_.add_subcommand("eval", "");
    eval_->add_option("--trials", trials_, "");
  }
  Words Run(const Words& args) {
    const auto words = TranslateArguments(root_, *run_, args);
    EXPECT_TRUE(words.ok()) << words.status().message();
    return words.ok() ? *words : Words{};
  }
  std::string Refused(const Words& args, const CLI::App* app = nullptr) {
    const auto words =
        TranslateArguments(root_, app == nullptr ? *run_ : *app, args);
    EXPECT_FALSE(words.ok());
    if (words.ok()) return "";
    EXPECT_EQ(words.status().code(), StatusCode::kUsage);
    return words.status().message();
  }

  RunFlags run_flags_;
  int trials_ = 0;
  CLI::App root_;
  CLI::App* run_;
  CLI::App* chat_;
  CLI::App* eval_;
};

TEST_F(ArgumentsTest, LeavesWhatIsOurs) {
  EXPECT_THAT(Run({"-p", "-np", "-n", "-1", "--json", "--temp=0.5"}),
              ElementsAre("-p", "-np", "-n", "-1", "--json", "--temp=0.5"));
  EXPECT_THAT(Run({"-ctk", "f32", "-sys", "-ctv"}),
              ElementsAre("--cache-type-k", "f32", "--system-prompt", "-ctv"));
  EXPECT_THAT(Run({"-", "-5", "word"}), ElementsAre("-", "-5", "word"));
  EXPECT_THAT(Run({"--", "--nothing"}), ElementsAre("--", "--nothing"));
}

TEST_F(ArgumentsTest, OnlyNumbersCanStickToALetter) {
  EXPECT_THAT(Run({"-n32", "-c2048", "-n-1"}),
              ElementsAre("-n", "32", "-c", "2048", "-n", "-1"));
  EXPECT_THAT(Refused({"-fdoc.txt"}), HasSubstr("did you mean -f doc.txt?"));
  EXPECT_THAT(Refused({"-ngl", "99"}), HasSubstr("-ngl 99: "));
  EXPECT_THAT(Refused({"-ngl"}), HasSubstr("on the CPU alone"));
  for (const char* word : {"-nx", "-mlock", "-pq", "-jsn"}) {
    EXPECT_THAT(Refused({word, "1"}),
                HasSubstr(std::string("unknown flag ") + word));
  }
}

TEST_F(ArgumentsTest, FlagsOfLlamaCppThatAreSoHereAnyway) {
  EXPECT_THAT(Run({"-fa",
                   "--flash-attn",
                   "on",
                   "-fa",
                   "auto",
                   "-b",
                   "2048",
                   "-ub",
                   "512",
                   "--batch-size=64",
                   "-st",
                   "--jinja",
                   "--no-display-prompt",
                   "--color",
                   "--no-warmup",
                   "--no-mmap",
                   "-ngl",
                   "0",
                   "-p",
                   "x"}),
              ElementsAre("-p", "x"));
  EXPECT_THAT(Refused({"-ub", "many"}), HasSubstr("-ub needs a number"));
  EXPECT_THAT(Refused({"-b"}), HasSubstr("-b needs a number"));
}

TEST_F(ArgumentsTest, FlagsOfLlamaCppUnderOurNames) {
  EXPECT_THAT(Run({"-cnv"}), ElementsAre("--chat"));
  // -tb is for the prompt, -t for all: -t wins, wherever it stands.
  EXPECT_THAT(Run({"-t", "2", "-tb", "4"}),
              ElementsAre("--threads", "4", "-t", "2"));
  EXPECT_THAT(Refused({"-p", "x", "-tb"}), HasSubstr("-tb needs a number"));
  EXPECT_THAT(Refused({"-tb", "all"}), HasSubstr("number, not all"));
  EXPECT_THAT(Run({"--temperature", "0.5", "--stop", "x"}),
              ElementsAre("--temperature", "0.5", "--stop", "x"));
}

TEST_F(ArgumentsTest, WhereNothingIsTemplatedAnyway) {
  const auto words = TranslateArguments(root_, *eval_, {"-no-cnv"});
  ASSERT_TRUE(words.ok()) << words.status().message();
  EXPECT_THAT(*words, IsEmpty());
}

TEST_F(ArgumentsTest, SaysWhyNot) {
  EXPECT_THAT(Refused({"-hf", "a/b"}), HasSubstr("downloads nothing"));
  EXPECT_THAT(Refused({"--hf-repo=a/b"}), HasSubstr("--hf-repo: "));
  EXPECT_THAT(Refused({"-i"}), HasSubstr("pyramidkv chat"));
  EXPECT_THAT(Refused({"-no-cnv"}, chat_), HasSubstr("pyramidkv run"));
  EXPECT_THAT(Refused({"-cnv"}, eval_),
              testing::Not(HasSubstr("did you mean -cnv")));
}

TEST_F(ArgumentsTest, SuggestsWhatWasMeant) {
  const std::pair<const char*, const char*> slips[] = {
      {"--treads", "--threads"},
      {"--predcit", "--predict"},
      {"--top_k", "--top-k"},
      {"--ctx", "--ctx"},
      {"--seeed", "--seed"},
      {"--cache-type", "--cache-type-k"},
      {"--temprature", "--temperature"}};
  for (const auto& [word, meant] : slips) {
    if (std::string(word) == meant) continue;
    EXPECT_THAT(Refused({word, "1"}),
                HasSubstr(std::string("did you mean ") + meant + "?"))
        << word;
  }
  EXPECT_THAT(Refused({"--trials", "3"}), HasSubstr("a flag of eval"));
  EXPECT_EQ(Refused({"--zzzzzz"}), "unknown flag --zzzzzz");
}

TEST_F(ArgumentsTest, EscapesAreForTextsAlone) {
  EXPECT_THAT(
      Run({"-e", "-p", "a\\nb", "-f", "a\\nb", "--prompt=c\\td", "-r", "\\n"}),
      ElementsAre("-p", "a\nb", "-f", "a\\nb", "--prompt=c\td", "-r", "\n"));
  EXPECT_THAT(Run({"-p", "a\\nb"}), ElementsAre("-p", "a\\nb"));
  EXPECT_THAT(Run({"--no-escape", "-p", "a\\nb"}), ElementsAre("-p", "a\\nb"));
}

TEST(UnescapeTest, AsCDoes) {
  EXPECT_EQ(Unescape("a\\tb\\r\\\\n\\\"\\'"), "a\tb\r\\n\"'");
  EXPECT_EQ(Unescape("\\x41\\x4\\q\\"), "A\\x4\\q\\");
  EXPECT_EQ(Unescape(""), "");
}

TEST(SuggestionTest, NearWordsAlone) {
  const Words names = {"run", "chat", "session"};
  EXPECT_EQ(Suggestion("rnu", names), "; did you mean run?");
  EXPECT_EQ(Suggestion("sesion", names), "; did you mean session?");
  EXPECT_EQ(Suggestion("sess", names), "; did you mean session?");
  EXPECT_EQ(Suggestion("walk", names), "");
  EXPECT_EQ(Suggestion("", names), "");
}

TEST(ForeignFlagsTest, NoneIsOneOfOurs) {
  // A flag of ours would hide it.
  CLI::App root;
  CLI::App* run = root.add_subcommand("run", "");
  RunFlags flags;
  AddRunFlags(run, &flags);
  for (const ForeignFlag& flag : ForeignFlags()) {
    EXPECT_EQ(run->get_option_no_throw(
                  std::string(flag.names)
                      .substr(0, std::string(flag.names).find('|'))),
              nullptr)
        << flag.names;
  }
}

TEST(ApplyRulesTest, TheLastOneCountsButForLists) {
  CLI::App app;
  RunFlags flags;
  AddRunFlags(&app, &flags);
  ApplyRules(&app);
  app.parse("-n 1 -n 2 --kv full --kv snapkv -r a -r b -p x -p y", false);
  EXPECT_EQ(flags.generation.predict, 2);
  EXPECT_THAT(flags.cache.specs, ElementsAre("snapkv"));
  EXPECT_THAT(flags.generation.stop, ElementsAre("a", "b"));
  EXPECT_EQ(flags.prompt.question, "y");

  CLI::App lists;
  CacheFlags cache;
  AddCacheFlags(&lists, &cache, true);
  ApplyRules(&lists);
  lists.parse("--kv full --kv snapkv", false);
  EXPECT_THAT(cache.specs, ElementsAre("full", "snapkv"));
}

TEST(ApplyRulesTest, FilesHaveNames) {
  for (const char* flag : {"-m", "-f", "--logits", "--kv-trace",
                           "--force-tokens", "--prompt-tokens"}) {
    CLI::App app;
    RunFlags flags;
    AddRunFlags(&app, &flags);
    ApplyRules(&app);
    Words args = {"", flag};  // from the last to the first
    EXPECT_THROW(app.parse(args), CLI::ValidationError) << flag;
  }
}

}  // namespace
}  // namespace pyramidkv::cli
