#include "cli/eval_output.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

EvalTrial Trial(int trial, const char* spec) {
  EvalTrial result;
  result.trial = trial;
  result.spec = spec;
  return result;
}

std::string Names(const std::vector<EvalTrial>& trials) {
  std::string names;
  for (const EvalTrial& t : trials) {
    names += std::to_string(t.trial) + t.spec + " ";
  }
  return names;
}

TEST(WholeTrialsTest, LeavesOutTheOneThatWasInterrupted) {
  EXPECT_EQ(
      Names(WholeTrials({Trial(0, "full"), Trial(0, "a"), Trial(1, "full"),
                         Trial(1, "a"), Trial(2, "full")})),
      "0full 0a 1full 1a ");
  EXPECT_EQ(Names(WholeTrials({})), "");
  // The first one shows the caches that it came to.
  EXPECT_EQ(Names(WholeTrials({Trial(0, "full"), Trial(0, "a")})), "0full 0a ");
}

TEST(WholeTrialsTest, PutsThoseOfAnEarlierRunIntoTheirPlace) {
  EXPECT_EQ(Names(WholeTrials({Trial(1, "full"), Trial(3, "full"),
                               Trial(0, "full"), Trial(2, "full")})),
            "0full 1full 2full 3full ");
}

}  // namespace
}  // namespace pyramidkv::cli
