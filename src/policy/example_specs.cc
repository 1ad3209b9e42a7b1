#include <fmt/format.h>

#include "policy/registry.h"

namespace pyramidkv {

std::vector<std::string> ExampleSpecs(std::string_view profile) {
  std::vector<std::string> specs;
  for (const Preset& p : Presets()) {
    std::string name(p.name);
    if (p.spec.budget.heads == HeadSplit::kProfile) {
      name += fmt::format(",profile={}", profile);
    }
    if (!p.spec.compresses) {
      specs.push_back(name);
      continue;
    }
    for (const char* keep : {"0.5", "0.1"}) {
      specs.push_back(fmt::format("{},keep={}", name, keep));
    }
  }
  for (const char* combination : {
           "snapkv,keep=0.3,heads=adaptive",
           "pyramidkv,keep=0.3,heads=adaptive",
           "pyramidkv,keep=0.3,evict=both",
           "snapkv,tokens=96,evict=both",
           "snapkv-wide,keep=0.3,evict=both",
           "snapkv-wide,keep=0.3,heads=adaptive,evict=both",
           "snapkv-wide,keep=0.3,vnorm=wo",
           "snapkv-wide,keep=0.2,heads=equal,remainder=cluster,merge=mean",
           "snapkv,keep=0.3,evict=both,remainder=cluster,merge=attention",
           "h2o,keep=0.3,heads=adaptive,decay=0.98,grace=8",
           "h2o,keep=0.3,variant=observed,kernel=15",
           "h2o,tokens=96,slack=1",
           "knorm,keep=0.3,evict=both,kernel=5",
           "keydiff,keep=0.3,evict=both,spread=16",
           "expected-attention,keep=0.3,heads=adaptive,vnorm=wo,evict=both",
           "kvzip,keep=0.3,heads=equal,group=mean",
           "streaming-llm,tokens=96,slack=32",
           "tova,tokens=64,slack=1",
           "snapkv,keep=0.3,evict=decode",
           "pyramidkv,keep=0.3,evict=both,type=int8",
           "snapkv,keep=0.3,heads=adaptive,type=int4",
           "snapkv-wide,keep=0.3,type_k=int4,type_v=int2",
           "snapkv,keep=0.3,type=int4,scale=channel",
           "pyramidkv,keep=0.3,type=int8,scale=tensor,recent_type=int8",
           "snapkv-wide,keep=0.3,top_type=int8,type=int4",
           "h2o,keep=0.3,top_type=f16,top=0.5,type_k=int4,type_v=int2",
           "snapkv,keep=0.3,top_type=f16,type=int8,scale=tensor",
           "snapkv,keep=0.3,top_type=int8,type=int4,scale=channel",
           "snapkv,keep=0.3,remainder=cluster,merge=mean,top_type=f16,"
           "type=int4",
       }) {
    specs.emplace_back(combination);
  }
  return specs;
}

}  // namespace pyramidkv
