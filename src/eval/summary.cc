// From trials to one row for each cache.

#include <algorithm>
#include <map>

#include "eval/statistics.h"
#include "pyramidkv/eval.h"

namespace pyramidkv {
namespace {

constexpr std::string_view kReference = "full";

using Trials = std::vector<const EvalTrial*>;

template <typename F>
double MeanOf(const Trials& trials, F value) {
  double sum = 0;
  for (const EvalTrial* t : trials) sum += static_cast<double>(value(*t));
  return sum / static_cast<double>(trials.size());
}

void AddAnswers(const Trials& trials, const std::map<int, bool>& reference,
                EvalRow* row) {
  PairedCounts counts;
  for (const EvalTrial* t : trials) {
    const bool full = reference.at(t->trial);
    row->right += t->right ? 1 : 0;
    int& count = t->right ? (full ? counts.both : counts.first)
                          : (full ? counts.second : counts.neither);
    ++count;
  }
  row->right_share = WilsonInterval(row->right, row->trials);
  row->difference = 1.0 * (counts.first - counts.second) / row->trials;
  row->difference_interval = PairedInterval(counts);
}

// All trials score the same number of tokens: the mean of means is the mean.
void AddDivergence(const Trials& trials, EvalRow* row) {
  EvalDivergence& all = row->divergence.emplace();
  std::vector<double> kl;
  for (const EvalTrial* t : trials) {
    kl.push_back(t->divergence->mean_kl);
    all.max_kl = std::max(all.max_kl, t->divergence->max_kl);
  }
  const auto mean = [&](double EvalDivergence::*member) {
    return MeanOf(trials,
                  [&](const EvalTrial& t) { return (*t.divergence).*member; });
  };
  all.mean_kl = mean(&EvalDivergence::mean_kl);
  all.top1_agreement = mean(&EvalDivergence::top1_agreement);
  all.nll = mean(&EvalDivergence::nll);
  all.nll_full = mean(&EvalDivergence::nll_full);
  if (kl.size() >= 2) row->kl_interval = BootstrapMeanInterval(kl);
}

EvalRow MakeRow(const Trials& trials, const std::map<int, bool>& reference) {
  EvalRow row;
  row.spec = trials[0]->spec;
  row.trials = static_cast<int>(trials.size());
  row.kv_bytes = MeanOf(trials, [](auto& t) { return t.kv_bytes; });
  row.kv_bytes_full = MeanOf(trials, [](auto& t) { return t.kv_bytes_full; });
  row.context_tokens = MeanOf(trials, [](auto& t) { return t.context_tokens; });
  for (const EvalTrial* t : trials) {
    row.scored_tokens += t->scored_tokens;
    if (row.warnings.empty()) row.warnings = t->warnings;
  }
  const bool known = std::all_of(
      trials.begin(), trials.end(),
      [](const EvalTrial* t) { return t->retained_mass.has_value(); });
  if (known) {
    row.retained_mass =
        MeanOf(trials, [](auto& t) { return *t.retained_mass; });
  }
  if (trials[0]->divergence) {
    AddDivergence(trials, &row);
  } else {
    AddAnswers(trials, reference, &row);
  }
  return row;
}

}  // namespace

std::vector<EvalRow> SummarizeEval(std::span<const EvalTrial> trials) {
  std::vector<Trials> by_spec;
  std::map<int, bool> reference;  // trial: whether the full cache was right
  for (const EvalTrial& trial : trials) {
    if (trial.spec == kReference) reference[trial.trial] = trial.right;
    auto same =
        std::find_if(by_spec.begin(), by_spec.end(),
                     [&](const Trials& t) { return t[0]->spec == trial.spec; });
    if (same == by_spec.end()) same = by_spec.insert(by_spec.end(), Trials());
    same->push_back(&trial);
  }
  std::vector<EvalRow> rows;
  for (const Trials& t : by_spec) rows.push_back(MakeRow(t, reference));
  return rows;
}

}  // namespace pyramidkv
