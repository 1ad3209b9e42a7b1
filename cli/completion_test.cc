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

}  // namespace
}  // namespace pyramidkv::cli
