#include "cache/key_index.h"

#include "base/check.h"
#include "cache/cluster_index.h"
#include "cache/quest_index.h"
#include "cache/sign_index.h"
#include "cache/skew_index.h"

namespace pyramidkv {

std::unique_ptr<KeyIndex> MakeKeyIndex(const KeyIndexOptions& options) {
  const int head_dim = options.head_dim;
  DCHECK(head_dim > 0 && head_dim % 8 == 0);
  switch (options.kind) {
    case IndexKind::kSign:
      return std::make_unique<SignIndex>(head_dim);
    case IndexKind::kSkew:
      DCHECK(options.skew != nullptr);
      return std::make_unique<SkewIndex>(
          head_dim, SkewColumns(options.partial, head_dim), options.skew);
    case IndexKind::kQuest:
      return std::make_unique<QuestIndex>(head_dim);
    case IndexKind::kCluster:
      return std::make_unique<ClusterIndex>(head_dim);
  }
  return nullptr;
}

}  // namespace pyramidkv
