#include "policy/scorers/far_attention.h"

#include "policy/scorers/received.h"

namespace pyramidkv {
namespace {

constexpr int kFarDistance = 64;  // rows nearer than this do not count

class FarAttention final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = false,
            .all_rows = true,
            .query_statistics = false,
            .repetition = false,
            .gathers = true,
            .query_heads = true,
            .sums = false,
            .pools = false,
            .question_aware = false,
            .decodes = false,
            .streams = true,
            .sparse = false};
  }

  LayerScores Score(const ScoreRequest& r) const override {
    Received received(r.view, /*max_rows=*/true);
    received.AddFresh(r.view.lse, kFarDistance, r.pool);
    LayerScores out;
    out.score = received.Reduce(r.spec.score.group);
    AddPastScores(r.view, /*factor=*/1, /*take_max=*/true, &out.score);
    return out;
  }
};

}  // namespace

const Scorer* FarAttentionScorer() {
  static constexpr FarAttention scorer;
  return &scorer;
}

}  // namespace pyramidkv
