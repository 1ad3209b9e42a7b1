#include "eval/trial_sessions.h"

#include <string_view>
#include <utility>

namespace pyramidkv {

Result<TrialSessions> TrialSessions::Read(const TrialContext& context,
                                          std::span<const std::string> specs,
                                          std::span<const int> tokens,
                                          int max_new_tokens) {
  TrialSessions result(context);
  for (const std::string& spec : specs) {
    PKV_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                         context.engine->NewSession(
                             {.kv = spec,
                              .context_size = context.options->context_size,
                              .max_new_tokens = max_new_tokens}));
    if (context.callbacks->trace) {
      session->SetTrace([spec, &trace = context.callbacks->trace](
                            std::string_view line) { trace(spec, line); });
    }
    result.pointers_.push_back(session.get());
    result.owned_.push_back(std::move(session));
  }
  PKV_RETURN_IF_ERROR(context.engine->ReadShared(tokens, result.pointers_,
                                                 context.callbacks->progress));
  return result;
}

std::vector<EvalTrial> TrialSessions::Results() const {
  std::vector<EvalTrial> results;
  for (const Session* session : pointers_) {
    const KvReport kv = session->Report();
    EvalTrial& trial = results.emplace_back();
    trial.spec = kv.spec;
    trial.kv_bytes = kv.bytes;
    trial.kv_bytes_full = kv.bytes_full;
    trial.retained_mass = kv.retained_mass;
    trial.warnings = kv.warnings;
    trial.context_tokens = session->position();
  }
  return results;
}

Status TrialSessions::Force(std::span<const int> tokens) {
  // The weights are read once for a batch: of the tokens of a session, or of
  // the sessions for a token, whichever is the larger.
  if (tokens.size() > pointers_.size()) {
    for (Session* session : pointers_) {
      PKV_RETURN_IF_ERROR(CheckCancelled());
      PKV_RETURN_IF_ERROR(session->Force(tokens).status());
    }
    return {};
  }
  for (const int token : tokens) {
    PKV_RETURN_IF_ERROR(CheckCancelled());
    const std::vector<int> row(pointers_.size(), token);
    PKV_RETURN_IF_ERROR(context_.engine->DecodeBatch(pointers_, row));
  }
  return {};
}

Status TrialSessions::CheckCancelled() const {
  const Progress& progress = context_.callbacks->progress;
  if (!progress || progress(1, 1)) return {};
  return Status::Cancelled();
}

}  // namespace pyramidkv
