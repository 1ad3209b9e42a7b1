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
  root.add_subcommand("secret", "")->group("");
  const std::string script = BashCompletion(root, {"full", "snapkv"});
  EXPECT_THAT(script, HasSubstr("run:-m|run:--model) COMPREPLY=($(compgen -f"));
  EXPECT_THAT(script, HasSubstr("run:--kv) COMPREPLY=($(compgen -W \"full "
                                "snapkv\""));
  EXPECT_THAT(script, HasSubstr("run:-ctk|run:--cache-type-k) "
                                "COMPREPLY=($(compgen -W \"f32 f16 bf16\""));
  EXPECT_THAT(script, HasSubstr("'') words=\"run -h --help\""));
  EXPECT_THAT(script, Not(HasSubstr("secret")));
  EXPECT_THAT(script, HasSubstr("complete -F _pyramidkv pyramidkv"));
}

}  // namespace
}  // namespace pyramidkv::cli
