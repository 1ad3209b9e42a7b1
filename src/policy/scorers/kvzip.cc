#include "policy/scorers/kvzip.h"

#include "policy/scorers/received.h"

namespace pyramidkv {
namespace {

class KvZip final : public Scorer {
 public:
  ScorerTraits traits() const override {
    return {.window = false,
            .all_rows = false,
            .query_statistics = false,
            .repetition = true,
            .gathers = true,
            .query_heads = true,
            .sums = false,
            .pools = false,
            .question_aware = false,
            .decodes = false,
            .streams = false,
            .sparse = false};
  }

  LayerScores Score(const ScoreRequest& r) const override {
    Received received(r.view, /*max_rows=*/true);
    for (const ObserverRows& rows : r.view.repetition) {
      received.AddRepetition(rows, r.pool);
    }
    LayerScores out;
    out.score = received.Reduce(r.spec.score.group);
    AddPastScores(r.view, /*factor=*/1, /*take_max=*/true, &out.score);
    return out;
  }
};

}  // namespace

const Scorer* KvZipScorer() {
  static constexpr KvZip scorer;
  return &scorer;
}

}  // namespace pyramidkv
