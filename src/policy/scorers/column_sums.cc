#include "policy/scorers/column_sums.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include "policy/scorers/received.h"

namespace pyramidkv {
namespace {

// A row that is t tokens old counts decay^t: its log-sum-exp grows by
// t * -log(decay).
std::vector<float> AgedLse(const LayerView& view, double decay) {
  const int heads = view.kv_heads * view.group;
  std::vector<float> aged(view.lse,
                          view.lse + static_cast<size_t>(view.fresh) * heads);
  for (int r = 0; r < view.fresh; ++r) {
    const double age = view.fresh - 1 - r;
    const float shift = static_cast<float>(-age * std::log(decay));
    for (int g = 0; g < heads; ++g) {
      aged[static_cast<size_t>(r) * heads + g] += shift;
    }
  }
  return aged;
}

class ColumnSums final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = false,
            .all_rows = true,
            .query_statistics = false,
            .repetition = false,
            .gathers = true,
            .query_heads = true,
            .sums = true,
            .pools = false,
            .question_aware = true,  // of all rows, a question's among them
            .decodes = true,
            .streams = true,
            .sparse = false};
  }

  LayerScores Score(const ScoreRequest& r) const override {
    const LayerView& view = r.view;
    LayerScores out;
    out.score = ZeroScores(view);
    if (view.fresh > 0) {
      std::vector<float> aged;
      if (r.spec.score.decay < 1) aged = AgedLse(view, r.spec.score.decay);
      Received received(view, /*max_rows=*/false);
      received.AddFresh(aged.empty() ? view.lse : aged.data(),
                        /*min_distance=*/0, r.pool);
      out.score = received.Reduce(r.spec.score.group);
    }
    const double factor = std::pow(r.spec.score.decay, view.fresh);
    AddPastScores(view, static_cast<float>(factor), /*take_max=*/false,
                  &out.score);
    return out;
  }
};

}  // namespace

const Scorer* ColumnSumsScorer() {
  static constexpr ColumnSums scorer;
  return &scorer;
}

}  // namespace pyramidkv
