// Refusals before any model is read: each with its code and a message
// that names the cause.

#include <string>
#include <vector>

#include "cli/command.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

struct Case {
  const char* name;
  std::vector<std::string> args;
  const char* message;
  StatusCode code = StatusCode::kUsage;
};

const Case kCases[] = {
    {"NoCommand", {}, "commands: run, chat, plan, bench, eval"},
    {"UnknownCommand", {"walk"}, "unknown command \"walk\"; commands: run"},
    {"MistypedCommand", {"sesion"}, "did you mean session?"},
    {"FlagBeforeTheCommand", {"-p", "a"}, "pyramidkv run -p"},
    {"UnknownRootFlag", {"--versoin"}, "did you mean --version?"},
    {"LlamaFlagAlone", {"-hf", "a/b"}, "downloads nothing"},
    {"HelpOnNothing", {"help", "walk"}, "no help on \"walk\""},
    {"GpuLayers", {"run", "-p", "a", "-ngl", "99"}, "-ngl 99: "},
    {"EmptyModel", {"run", "-p", "a", "-m", ""}, "--model: the name of"},
    {"EmptyPromptFile", {"run", "-f", ""}, "--file: the name of"},
    {"EmptyLogits", {"run", "-p", "a", "--logits", ""}, "--logits: the name"},
    {"EmptyPlanModel", {"plan", "-m", ""}, "--model: the name of"},
    {"EmptyEvalOut", {"eval", "kl", "--out", ""}, "--out: the name of"},
    {"EmptyEvalResume", {"eval", "kl", "--resume", ""}, "--resume: the name"},
    {"EmptyEvalTrace", {"eval", "kl", "--kv-trace", ""}, "--kv-trace: the"},
    {"EmptyDirectory", {"run", "-p", "a", "--kv-offload-dir", ""}, "--kv-off"},
    {"EmptySession", {"session", "ask", "", "-p", "a"}, "file: the name of"},
    {"EmptySessionToSave", {"session", "save", "", "-p", "a"}, "file: the na"},
    {"EmptyQuestions",
     {"session", "ask", "x", "--questions", ""},
     "--questions: the name of"},
    {"SaveIntoADirectory", {"session", "save", "/", "-p", "a"}, "directory"},
    {"SaveIntoTheModel",
     {"session", "save", "/dev/zero", "-p", "a", "-m", "/dev/zero"},
     "no regular file"},
    {"OutputNameTooLong",
     {"run", "-p", "a", "--logits", std::string(300, 'x')},
     "too long"},
    {"UnknownFlag", {"run", "--speed", "9"}, "--speed"},
    {"StrayArgument", {"run", "-p", "a", "b"}, "b"},
    {"FlagWithoutValue", {"run", "-p"}, "--prompt"},
    {"EmptyPrompt", {"run", "-p", ""}, "prompt is empty"},
    {"TwoPrompts", {"run", "-p", "a", "--prompt-tokens", "b"}, "whole prompt"},
    {"NoPromptFile", {"run", "-f", "/nonexistent"}, "/nonexistent"},
    {"PromptIsDirectory", {"run", "-f", "/"}, "directory"},
    {"ZeroThreads", {"run", "-p", "a", "-t", "0"}, "--threads"},
    {"NegativeThreads", {"run", "-p", "a", "-t", "-2"}, "--threads"},
    {"ThreadsNotANumber", {"run", "-p", "a", "-t", "2x"}, "2x"},
    {"NegativeContext", {"run", "-p", "a", "-c", "-1"}, "--ctx-size"},
    {"UnknownCompute",
     {"run", "-p", "a", "--compute", "f8"},
     "auto, f32, bf16, int8"},
    {"NanTemperature", {"run", "-p", "a", "--temp", "nan"}, "--temp"},
    {"TwoBitKeys", {"run", "-p", "a", "-ctk", "int2"}, "no such cache type"},
    {"TwoTypes",
     {"run", "-p", "a", "--kv", "full,type=f32", "-ctv", "f16"},
     "contradicts type=f32"},
    {"LogprobsWithoutJson", {"run", "-p", "a", "--logprobs", "2"}, "--json"},
    {"TemplateWithoutChat",
     {"run", "--no-chat", "-p", "a", "-sys", "b"},
     "--chat"},
    {"NoModel",
     {"run", "-p", "a", "-m", "/nonexistent"},
     "/nonexistent",
     StatusCode::kModel},
    {"PromptCacheAndSession",
     {"run", "-p", "a", "--prompt-cache", "x", "--save-session", "y"},
     "--prompt-cache is loaded and saved"},
    {"PromptCacheToRead",
     {"run", "-p", "a", "--prompt-cache-ro"},
     "needs --prompt-cache"},
    {"PlanMissesDims", {"plan", "--layers", "3"}, "--kv-heads, --head-dim"},
    {"PlanModelAndDims", {"plan", "-m", "f", "--layers", "3"}, "--layers"},
    {"BenchLengths", {"bench", "-p", "8,x"}, "--n-prompt"},
    {"BenchSequences", {"bench", "-np", "0"}, "--parallel"},
    {"BenchFormat", {"bench", "-o", "xml"}, "md, json, csv"},
    {"EvalWithoutTask", {"eval"}, "task"},
    {"EvalTask", {"eval", "riddle"}, "passkey, needle, kl"},
    {"EvalVariant",
     {"eval", "passkey", "--variant", "odd"},
     "plain, multi, rev, long"},
    {"EvalPlacement",
     {"eval", "passkey", "--placement", "here"},
     "agnostic, aware, whole"},
    {"EvalZeroTrials", {"eval", "kl", "--trials", "0"}, "--trials"},
    {"EvalDepth", {"eval", "needle", "--depth", "0.5,50"}, "50"},
    {"EvalNanDepth", {"eval", "needle", "--depth", "nan"}, "--depth"},
    {"EvalSeed", {"eval", "needle", "--seed", "-1"}, "--seed"},
    {"EvalVariantOfNeedle",
     {"eval", "needle", "--variant", "rev"},
     "--variant does not apply to needle"},
    {"EvalPlacementOfKl",
     {"eval", "kl", "--placement", "whole"},
     "--placement does not apply to kl"},
    {"EvalDepthOfKl", {"eval", "kl", "--depth", "0"}, "--depth does not"},
    {"EvalAtLeastOfKl", {"eval", "kl", "--at-least", "1"}, "--at-least does"},
    {"EvalFileOfPasskey", {"eval", "passkey", "-f", "x"}, "--file does not"},
    {"EvalScoreTokensOfPasskey",
     {"eval", "passkey", "--score-tokens", "9"},
     "--score-tokens does not"},
    {"EvalMaxKlOfNeedle", {"eval", "needle", "--max-kl", "1"}, "--max-kl does"},
    {"EvalAtLeastOfFewer",
     {"eval", "passkey", "--trials", "3", "--at-least", "4"},
     "--at-least 4 of 3 trials"},
    {"EvalTwoFiles",
     {"eval", "passkey", "--out", "a", "--resume", "b"},
     "--resume goes on with its own file"},
    {"EvalNoText", {"eval", "kl", "-f", "/nonexistent"}, "/nonexistent"},
    {"SessionNoAction", {"session"}, "action"},
    {"SessionNoFile", {"session", "info"}, "file"},
    {"SessionOtherAction", {"session", "eat", "x"}, "save, info, verify, ask"},
    {"SessionSpecOfAsk",
     {"session", "ask", "x", "-p", "y", "--kv", "full"},
     "its own cache spec"},
    {"SessionSystemOfAsk",
     {"session", "ask", "x", "-p", "y", "--chat", "-sys", "z"},
     "--system-prompt"},
    {"SessionTwoFiles",
     {"session", "save", "x", "-p", "y", "--save-session", "z"},
     "one file"},
    {"SessionPromptOfInfo", {"session", "info", "x", "-p", "y"}, "no prompt"},
    {"SessionQuestionsOfSave",
     {"session", "save", "x", "-p", "y", "--questions", "q"},
     "session ask"},
    {"SessionQuestionsAndPrompt",
     {"session", "ask", "x", "-p", "y", "--questions", "q"},
     "leave out prompts"},
    {"SessionNoQuestions",
     {"session", "ask", "x", "--questions", "/nonexistent"},
     "/nonexistent"},
    {"SessionDirectory",
     {"run", "-p", "y", "--save-session", "/nonexistent/z"},
     "/nonexistent",
     StatusCode::kRuntime},
    {"SessionMissing",
     {"session", "info", "/nonexistent"},
     "/nonexistent",
     StatusCode::kModel},
    {"EvalNoModel",
     {"eval", "kl", "-m", "/nonexistent"},
     "/nonexistent",
     StatusCode::kModel},
};

class DispatchTest : public testing::TestWithParam<Case> {};

TEST_P(DispatchTest, Refuses) {
  const Status status = Dispatch(GetParam().args);
  EXPECT_EQ(status.code(), GetParam().code);
  EXPECT_THAT(status.message(), testing::HasSubstr(GetParam().message));
  EXPECT_THAT(status.message(), testing::Not(testing::HasSubstr("\n")));
}

INSTANTIATE_TEST_SUITE_P(All, DispatchTest, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pyramidkv::cli
