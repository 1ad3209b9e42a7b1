#include "cli/completion.h"

#include "cli/options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(BashCompletionTest, CoversTheTree) {
  CLI::App root("", "pyramidkv");
  ModelFlags model;
  CacheFlags cache;
  CLI::App* run = root.add_subcommand("run", "");
  AddModelFlags(run, &model);
  AddCacheFlags(run, &cache, false);
  CLI::App* eval = root.add_subcommand("eval", "");
  std::string task;
  eval->add_option("task", task)->type_name("needle|kl");
  eval->add_option("--out", task)->type_name("FILE");
  root.add_subcommand("secret", "")->group("");
  const std::string script = BashCompletion(root, {"full", "snapkv"});
  EXPECT_THAT(script, HasSubstr("run:-m|run:--model) COMPREPLY=($(compgen -f"));
  EXPECT_THAT(script, HasSubstr("run:--kv) COMPREPLY=($(compgen -W \"full "
                                "snapkv\""));
  EXPECT_THAT(
      script,
      HasSubstr(
          "run:-ctk|run:--cache-type-k) "
          "COMPREPLY=($(compgen -W \"f32 f16 bf16 int8 int4 q8_0 q4_0\""));
  EXPECT_THAT(script, HasSubstr("'') words=\"run eval -h --help\""));
  EXPECT_THAT(script, Not(HasSubstr("secret")));
  EXPECT_THAT(script, HasSubstr("eval) words=\"needle kl -h --help --out\""));
  EXPECT_THAT(script, HasSubstr("eval:--out) COMPREPLY=($(compgen -f"));
  EXPECT_THAT(script, Not(HasSubstr("    ) ")));  // a case without a pattern
  EXPECT_THAT(script, HasSubstr("complete -F _pyramidkv pyramidkv"));
}

class ShellCompletionTest : public testing::Test {
 protected:
  ShellCompletionTest() : root_("", "pyramidkv") {
    CLI::App* run = root_.add_subcommand("run", "It's [one]: `$x`");
    AddModelFlags(run, &model_);
    AddCacheFlags(run, &cache_, false);
    CLI::App* eval = root_.add_subcommand("eval", "");
    eval->add_option("task", task_)->type_name("needle|kl");
    root_.add_subcommand("secret", "")->group("");
  }

  CLI::App root_;
  ModelFlags model_;
  CacheFlags cache_;
  std::string task_;
};

TEST_F(ShellCompletionTest, Zsh) {
  const std::string script = ZshCompletion(root_, {"full", "snapkv"});
  EXPECT_THAT(script, testing::StartsWith("#compdef pyramidkv\n"));
  EXPECT_THAT(script, HasSubstr("run\\:\"It'\\''s \\[one\\]\\: \\`\\$x\\`\""));
  EXPECT_THAT(script, HasSubstr("'*--model=[GGUF file"));
  EXPECT_THAT(script, HasSubstr("]:FILE:_files'"));
  EXPECT_THAT(script, HasSubstr(":value:(full snapkv)'"));
  EXPECT_THAT(script, HasSubstr("'*-ctk["));
  EXPECT_THAT(script, HasSubstr("'1:value:(needle kl)'"));
  EXPECT_THAT(script, Not(HasSubstr("secret")));
}

TEST_F(ShellCompletionTest, Fish) {
  const std::string script = FishCompletion(root_, {"full", "snapkv"});
  EXPECT_THAT(script, HasSubstr("-a run -d 'It\\'s [one]: `$x`'\n"));
  EXPECT_THAT(script, HasSubstr("-n '__fish_seen_subcommand_from run' -s m -l "
                                "model -r -F -d 'GGUF file"));
  EXPECT_THAT(script, HasSubstr("-l kv -x -a 'full snapkv' -d"));
  EXPECT_THAT(script, HasSubstr("-o ctk -l cache-type-k -x -a 'f32 f16"));
  EXPECT_THAT(script, HasSubstr("_from eval' -a 'needle kl'\n"));
  EXPECT_THAT(script, Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace pyramidkv::cli
