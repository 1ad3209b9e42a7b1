#include "policy/spec.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "policy/registry.h"
#include "policy/spec_keys.h"
#include "policy/spec_values.h"

namespace pyramidkv {
namespace {

CacheSpec Parsed(std::string_view text) {
  const Result<CacheSpec> spec = ParseCacheSpec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CacheSpec{};
}

TEST(CacheSpecTest, ReadsEveryKey) {
  const CacheSpec s = Parsed(
      "snapkv,tokens=512,schedule=linear,ratio=0.25,min=48,warmup=0.125,"
      "sinks=3,recent=7,window=9,kernel=11,pool=max,reduce=max,select=topk,"
      "heads=equal,group=sum,vnorm=v,evict=prefill,prefill=exact,"
      "remainder=drop,type_k=f32,type_v=bf16,positions=original,"
      "sliding_window=1024");
  EXPECT_EQ(s.budget.tokens, 512);
  EXPECT_EQ(s.budget.schedule, ScheduleKind::kLinear);
  EXPECT_EQ(s.budget.ratio, 0.25);
  EXPECT_EQ(s.budget.min, 48);
  EXPECT_EQ(s.budget.warmup, 0.125);
  EXPECT_EQ(s.score.sinks, 3);
  EXPECT_EQ(s.score.recent, 7);
  EXPECT_EQ(s.score.window, 9);
  EXPECT_EQ(s.score.kernel, 11);
  EXPECT_EQ(s.score.pool, PoolKind::kMax);
  EXPECT_EQ(s.score.reduce, RowReduce::kMax);
  EXPECT_EQ(s.score.select, SelectKind::kTopk);
  EXPECT_EQ(s.score.group, GroupReduce::kSum);
  EXPECT_EQ(s.score.vnorm, ValueNorm::kV);
  EXPECT_EQ(s.storage.type_k, Codec::kF32);
  EXPECT_EQ(s.storage.type_v, Codec::kBf16);
  EXPECT_EQ(s.budget.sliding_window, 1024);
  const CacheSpec q = Parsed("full,type=int4,scale=tensor,recent_type=int8");
  EXPECT_EQ(q.storage.scale, ScaleKind::kTensor);
  EXPECT_EQ(q.storage.recent_type, Codec::kInt8);
  const CacheSpec top = Parsed("snapkv,keep=1,type=int4,top_type=f16,top=0.1");
  EXPECT_EQ(top.storage.top_type, Codec::kF16);
  EXPECT_EQ(top.storage.top, 0.1);

  EXPECT_EQ(Parsed("snapkv,schedule=power,exponent=0.7").budget.exponent, 0.7);
  const CacheSpec p = Parsed("pyramidkv,keep=0.3,beta=14,mode=kvpress");
  EXPECT_EQ(p.budget.keep, 0.3);
  EXPECT_EQ(p.budget.beta, 14);
  EXPECT_EQ(p.budget.mode, PyramidMode::kKvpress);
  const CacheSpec w = Parsed("snapkv-wide,memory=64MiB,floor=0.4");
  EXPECT_EQ(w.budget.memory, 64 << 20);
  EXPECT_EQ(w.budget.floor, 0.4);
  EXPECT_THAT(Parsed("snapkv,schedule=custom,budgets=512:400").budget.budgets,
              testing::ElementsAre(512, 400));
  EXPECT_THAT(
      Parsed("snapkv,schedule=table,table=0:1/0.5:0.6/1:0.15").budget.table,
      testing::ElementsAre(std::pair(0.0, 1.0), std::pair(0.5, 0.6),
                           std::pair(1.0, 0.15)));
}

TEST(CacheSpecTest, ReadsTheColdTiersKeys) {
  const CacheSpec s = Parsed(
      "snapkv,keep=0.25,remainder=offload,index=skew,partial=0.2,alpha=5,"
      "fetch=0.1,resident=0.5,victim=lru");
  EXPECT_EQ(s.tier.remainder, Remainder::kOffload);
  EXPECT_EQ(s.tier.index, IndexKind::kSkew);
  EXPECT_EQ(s.tier.partial, 0.2);
  EXPECT_EQ(s.tier.alpha, 5);
  EXPECT_EQ(s.tier.fetch, 0.1);
  EXPECT_EQ(s.tier.resident, 0.5);
  EXPECT_EQ(s.tier.victim, Victim::kLru);
  EXPECT_TRUE(s.offloads());
  EXPECT_FALSE(Parsed("snapkv,keep=1,remainder=offload").offloads());
  // A preset's own budget gives way.
  EXPECT_EQ(Parsed("infinigen").budget.tokens, 192);
  EXPECT_FALSE(Parsed("infinigen,keep=0.1").budget.tokens.has_value());
  EXPECT_EQ(FormatCacheSpec(Parsed("infinigen,keep=0.1")),
            "infinigen,keep=0.1");
  EXPECT_EQ(FormatCacheSpec(Parsed("infinigen,tokens=192")), "infinigen");
}

TEST(CacheSpecTest, DerivesWhatDependsOnOtherKeys) {
  EXPECT_EQ(Parsed("snapkv,keep=0.5,window=64").score.recent, 64);
  EXPECT_EQ(Parsed("pyramidkv,keep=0.5,window=8").score.recent, 8);
  EXPECT_EQ(Parsed("snapkv,keep=0.5,window=64,recent=5").score.recent, 5);
  EXPECT_EQ(Parsed("snapkv-wide,keep=0.5,window=8").score.recent, 16);
  EXPECT_EQ(Parsed("snapkv,keep=0.5,select=mixed").score.recent, kRecentHalf);
  EXPECT_EQ(Parsed("llama,select=topk").score.recent, 32);
  EXPECT_EQ(Parsed("llama,select=recent").score.recent, 0);
  // The floors of the preset mean nothing to a global split.
  const CacheSpec g =
      Parsed("llama,keep=0.5,schedule=uniform,select=topk,heads=global");
  EXPECT_FALSE(g.budget.min.has_value());
  EXPECT_EQ(g.budget.warmup, 0);
  EXPECT_EQ(Parsed("snapkv,schedule=table").budget.table, StepsTable());
  EXPECT_EQ(Parsed("full,type=f32").storage.type_v, Codec::kF32);
}

struct BadSpec {
  const char* text;
  std::vector<std::string> message;  // all of these appear in it
};

class BadSpecTest : public testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, IsRefusedByName) {
  const BadSpec& c = GetParam();
  const Result<CacheSpec> spec = ParseCacheSpec(c.text);
  ASSERT_FALSE(spec.ok()) << c.text;
  EXPECT_EQ(spec.status().code(), StatusCode::kUsage);
  for (const std::string& part : c.message) {
    EXPECT_THAT(spec.status().message(), testing::HasSubstr(part)) << c.text;
  }
}

const BadSpec kBadSpecs[] = {
    // Bounds hold for every context.
    {"snapkv,tokens=64,from=9", {"from: tokens=64 holds", "keep=SHARE"}},
    {"snapkv,memory=1MiB,from=9", {"from: memory=1MiB holds", "keep=SHARE"}},
    {"full,from=9", {"from: full keeps every entry"}},
    {"snapkv,keep=0.5,from=-1", {"from=-1", "0 to 1073741824"}},
    // Policies and syntax.
    {"", {"unknown policy \"\"", "full, streaming-llm, h2o"}},
    {"h3o,keep=0.5", {"unknown policy \"h3o\"", "snapkv-wide, tova"}},
    {"snapvk,keep=0.5", {"\"snapvk\"", "did you mean \"snapkv\"?"}},
    {"Snap KV,keep=0.5", {"unknown policy \"snap kv\""}},
    {"snapkv keep=0.5", {"unknown policy"}},
    {"snapkv,keep", {"\"keep\" is not key=value"}},
    {"snapkv,,keep=0.5", {"\"\" is not key=value"}},
    {"snapkv,keep=0.5,", {"\"\" is not key=value"}},
    {"snapkv,=0.5", {"is not key=value"}},
    {"snapkv,ke ep=0.5", {"unknown key \"ke ep\""}},
    // Keys.
    {"snapkv,kep=0.5", {"unknown key \"kep\"", "did you mean \"keep\"?"}},
    {"snapkv,guard=0.9", {"unknown key \"guard\"", "sliding_window"}},
    {"snapkv,keep=0.5,keep=0.5", {"keep is given twice"}},
    {"full,type=f32,type_k=f16", {"type is given twice", "type_k and type_v"}},
    {"full,type_v=f32,type=f16", {"type is given twice"}},
    {"snapkv,keep=0.5,tokens=64", {"two budgets", "keep, tokens and memory"}},
    {"snapkv,memory=1GiB,tokens=64", {"two budgets"}},
    {"snapkv,memory=1GiB,keep=1", {"two budgets"}},
    // Values out of range.
    {"snapkv,keep=0", {"keep=0:", "above 0, at most 1"}},
    {"snapkv,keep=1.5", {"keep=1.5:", "above 0, at most 1"}},
    {"snapkv,keep=-0.5", {"keep=-0.5:"}},
    {"snapkv,keep=nan", {"keep=nan:"}},
    {"snapkv,keep=0.5x", {"keep=0.5x:"}},
    {"snapkv,keep=0. 5", {"keep=0. 5:"}},
    {"snapkv,keep=", {"keep=:"}},
    {"snapkv,tokens=0", {"tokens=0:", "an integer from 1"}},
    {"snapkv,tokens=99999999999999999999", {"tokens=9999"}},
    {"snapkv,tokens=64.5", {"tokens=64.5:"}},
    {"snapkv,memory=0", {"memory=0:", "KiB, MiB or GiB"}},
    {"snapkv,memory=64MB", {"memory=64MB:", "KiB, MiB or GiB"}},
    {"snapkv,memory=1e30GiB", {"memory=1e30GiB:"}},
    {"snapkv,memory=-1MiB", {"memory=-1MiB:"}},
    {"snapkv,keep=0.5,kernel=4", {"kernel=4:", "odd integer"}},
    {"snapkv,keep=0.5,kernel=-1", {"kernel=-1:"}},
    {"snapkv,keep=0.5,window=0", {"window=0:", "from 1"}},
    {"snapkv,keep=0.5,sinks=-1", {"sinks=-1:"}},
    {"snapkv,keep=0.5,recent=-1", {"recent=-1:", "half, or an integer"}},
    {"snapkv,keep=0.5,min=0", {"min=0:"}},
    {"snapkv,keep=0.5,warmup=1.1", {"warmup=1.1:", "from 0 to 1"}},
    {"pyramidkv,keep=0.5,beta=0.5", {"beta=0.5:", "from 1"}},
    {"llama,ratio=1.5", {"ratio=1.5:"}},
    {"snapkv,schedule=power,exponent=0", {"exponent=0:"}},
    {"snapkv-wide,keep=0.5,floor=2", {"floor=2:"}},
    {"snapkv,schedule=table,table=0:1/0:2", {"table=0:1/0:2:", "rising"}},
    {"snapkv,schedule=table,table=0.5", {"table=0.5:"}},
    {"snapkv,schedule=table,table=0:1/2:1", {"table=0:1/2:1:"}},
    {"snapkv,schedule=custom,budgets=5:0", {"budgets=5:0:"}},
    {"snapkv,schedule=custom,budgets=5:", {"budgets=5::"}},
    {"mistral,sliding_window=-1", {"sliding_window=-1:"}},
    // Values that other versions may have.
    {"full,type=q5_1", {"type=q5_1:", "f32, f16, bf16"}},
    {"full,type_k=int3", {"type_k=int3:", "f32, f16, bf16, int8, int4, int2"}},
    {"full,type_k=int2", {"type_k=int2:", "keys need 4 bits"}},
    {"full,scale=tensor", {"scale: type_k=f16", "int8, int4 and int2"}},
    {"full,type=bf16,recent_type=int8", {"recent_type: type_k=bf16"}},
    {"full,type_v=int8,scale=channel", {"scale=channel", "type_k=f16"}},
    {"full,type=int8,scale=channel,recent_type=int8",
     {"recent_type=int8", "no finer"}},
    {"h2o,keep=0.3,type=int4,scale=channel", {"evict=both", "scale=token"}},
    {"snapkv,keep=0.3,type=int4,scale=channel,prefill=streaming",
     {"prefill=streaming", "prefill=exact"}},
    {"snapkv,keep=0.3,type=int4,scale=channel,remainder=cluster",
     {"remainder=cluster", "remainder=drop"}},
    {"snapkv-wide,keep=0.3,type=int4,scale=channel",
     {"heads=global", "heads=equal"}},
    {"full,type=int4,top_type=int8", {"top_type:", "full keeps every entry"}},
    {"snapkv,keep=0.5,top_type=int8", {"top_type:", "type_k=f16", "int4"}},
    {"streaming-llm,keep=0.5,type=int4,top_type=int8",
     {"top_type:", "ranks none"}},
    {"snapkv,keep=0.5,type=int4,top=0.3", {"top:", "top_type=CODEC"}},
    {"snapkv,keep=0.5,type=int4,top_type=int8,top=0", {"top=0:", "above 0"}},
    {"snapkv,keep=0.5,type=int8,top_type=int4", {"top_type=int4", "no finer"}},
    {"full,type=int8,scale=row", {"scale=row:", "token, tensor, channel"}},
    {"full,type=int2", {"type_k=int2:", "keys need 4 bits"}},
    {"snapkv,keep=0.5,heads=all", {"heads=all:", "adaptive, global"}},
    {"snapkv,keep=0.5,schedule=calibrated", {"calibrated:", "uniform, linear"}},
    {"snapkv,keep=0.5,vnorm=q", {"vnorm=q:", "off, v, wo"}},
    {"snapkv,keep=0.5,evict=never", {"evict=never:", "prefill, decode, both"}},
    {"full,prefill=dense", {"prefill=dense:", "exact, streaming, sparse"}},
    {"h2o,keep=0.5,prefill=sparse", {"prefill=sparse", "h2o", "exact"}},
    {"kvzip,keep=0.5,prefill=sparse", {"prefill=sparse", "kvzip", "exact"}},
    {"snapkv,keep=0.5,remainder=forget", {"forget:", "drop, cluster, offlo"}},
    {"infinigen,index=lsh", {"index=lsh:", "sign, skew, quest, cluster"}},
    {"infinigen,fetch=0", {"fetch=0:", "above 0, at most 1"}},
    {"infinigen,alpha=0", {"alpha=0:", "above 0"}},
    {"infinigen,resident=2", {"resident=2:", "at most 1"}},
    {"infinigen,resident=0.5,victim=mru", {"victim=mru:", "fifo, lru, coun"}},
    {"full,positions=renumber", {"positions=renumber", "positions=original"}},
    {"snapkv,keep=0.5,remainder=cluster,clusters=1.5",
     {"clusters=1.5:", "a share below 1"}},
    {"h2o,keep=0.5,decay=0", {"decay=0:", "above 0"}},
    // Keys that the rest of the spec makes no use of.
    {"full,keep=0.5", {"keep:", "full keeps every entry", "type_k"}},
    {"full,window=5", {"window:", "full keeps every entry"}},
    {"snapkv,keep=0.5,beta=20", {"beta:", "schedule=uniform", "arithmetic"}},
    {"snapkv,keep=0.5,mode=exact", {"mode:", "arithmetic"}},
    {"pyramidkv,keep=0.5,ratio=0.5", {"ratio:", "arithmetic", "linear or po"}},
    {"llama,exponent=0.5", {"exponent:", "schedule=linear", "power"}},
    {"llama,table=steps", {"table:", "schedule=table"}},
    {"llama,budgets=5:5", {"budgets:", "schedule=custom"}},
    {"snapkv,keep=0.5,floor=0.1", {"floor:", "adaptive or global"}},
    {"snapkv,keep=0.5,decay=0.9", {"decay:", "h2o"}},
    {"knorm,keep=0.5,window=8", {"window:", "last queries"}},
    {"knorm,keep=0.5,group=max", {"group:", "attention"}},
    {"streaming-llm,keep=0.5,kernel=5", {"kernel:", "ranks none"}},
    {"snapkv,keep=0.5,slack=9", {"slack:", "evict=decode or both"}},
    {"snapkv,keep=0.5,clusters=9", {"clusters:", "remainder=cluster"}},
    {"snapkv,keep=0.5,remainder=cluster,index=sign",
     {"index:", "remainder=cluster", "remainder=offload"}},
    {"infinigen,remainder=drop,fetch=0.1", {"fetch:", "remainder=offload"}},
    {"infinigen,partial=0.2", {"partial:", "index=skew"}},
    {"infinigen,victim=lru", {"victim:", "resident below 1"}},
    {"streaming-llm,tokens=64,remainder=cluster",
     {"remainder=cluster", "ranks none"}},
    {"snapkv,keep=0.5,profile=a.json", {"profile:", "heads=profile"}},
    {"snapkv,keep=0.5,select=recent,window=8", {"window:", "select=recent"}},
    {"snapkv,keep=0.5,select=recent,recent=8", {"recent:", "select=recent"}},
    {"llama,select=recent,vnorm=v", {"vnorm:", "select=recent"}},
    {"pyramidkv,keep=0.5,mode=kvpress,min=9", {"min:", "mode=exact"}},
    {"pyramidkv,keep=0.5,mode=reference,warmup=0.1", {"warmup:", "mode=exact"}},
    {"snapkv-wide,keep=0.5,min=64", {"min:", "heads=global"}},
    // Keys that do not go together.
    {"infinigen,keep=0.1,tokens=9", {"two budgets"}},
    {"infinigen,memory=1GiB", {"memory", "remainder=offload", "resident"}},
    {"streaming-llm,tokens=64,remainder=offload,positions=renumber",
     {"remainder=offload", "positions=renumber", "positions=original"}},
    {"snapkv,keep=0.5,remainder=offload,sliding_window=64",
     {"remainder=offload", "sliding_window=64", "sliding_window=0"}},
    {"pyramidkv,keep=0.5,heads=global",
     {"heads=global", "schedule=arithmetic", "schedule=uniform"}},
    {"snapkv-wide,keep=0.5,schedule=linear,ratio=0.4",
     {"heads=global", "schedule=linear"}},
    {"snapkv-wide,keep=0.5,select=mixed", {"heads=global", "select=topk"}},
    {"snapkv-wide,keep=0.5,recent=half", {"heads=global", "integer"}},
    {"streaming-llm,keep=0.5,select=topk",
     {"streaming-llm ranks no entries", "select=recent"}},
    {"kvzip,keep=0.5,prefill=streaming",
     {"prefill=streaming", "kvzip", "prefill=exact"}},
    {"kvzip,keep=0.5,evict=both", {"evict=both", "kvzip", "evict=prefill"}},
    {"far-attention,keep=0.5,evict=both", {"evict=both", "far-attention"}},
    {"snapkv,keep=0.5,prefill=streaming,evict=decode",
     {"prefill=streaming", "evict=decode"}},
    {"llama,evict=both", {"warmup=0.1", "evict=both"}},
    {"snapkv,tokens=64,heads=adaptive,positions=renumber",
     {"positions=renumber", "heads=adaptive", "heads=equal"}},
    {"snapkv,tokens=64,type=bf16,positions=renumber",
     {"positions=renumber", "type_k=bf16"}},
    {"snapkv,tokens=64,type=int8,positions=renumber",
     {"positions=renumber", "type_k=int8"}},
    {"snapkv-wide,keep=0.5,remainder=cluster",
     {"remainder=cluster", "heads=global"}},
    {"duo-attention,keep=0.5", {"heads=profile needs", "profile=FILE"}},
    {"duo-attention,keep=0.5,profile=a.json,evict=both",
     {"evict=both", "heads=profile"}},
    {"snapkv,keep=0.5,heads=profile,profile=a.json",
     {"heads=profile", "select=recent"}},
    {"llama,heads=adaptive", {"heads=adaptive", "select=topk"}},
    {"llama,recent=16", {"recent=16", "select=mixed", "recent=half"}},
    // Budgets that are missing.
    {"snapkv", {"snapkv", "needs a budget", "keep=SHARE", "memory=BYTES"}},
    {"pyramidkv", {"schedule=arithmetic needs a budget"}},
    {"snapkv-wide", {"needs a budget"}},
    {"llama,schedule=uniform", {"needs a budget"}},
    {"snapkv,keep=0.5,schedule=custom", {"needs budgets"}},
};

INSTANTIATE_TEST_SUITE_P(All, BadSpecTest, testing::ValuesIn(kBadSpecs));

struct Canonical {
  const char* text;
  const char* want;
};

class CanonicalTest : public testing::TestWithParam<Canonical> {};

TEST_P(CanonicalTest, Prints) {
  EXPECT_EQ(FormatCacheSpec(Parsed(GetParam().text)), GetParam().want);
}

INSTANTIATE_TEST_SUITE_P(
    All, CanonicalTest,
    testing::Values(
        Canonical{"full", "full"}, Canonical{"llama", "llama"},
        Canonical{"snapkv,keep=0.30", "snapkv,keep=0.3"},
        Canonical{"snapkv,kernel=5,keep=0.3", "snapkv,keep=0.3"},
        Canonical{"snapkv,window=16,recent=16,tokens=7",
                  "snapkv,tokens=7,window=16"},
        Canonical{"snapkv,recent=9,window=16,tokens=7",
                  "snapkv,tokens=7,recent=9,window=16"},
        Canonical{"snapkv,memory=1.5GiB", "snapkv,memory=1536MiB"},
        Canonical{"snapkv,memory=1000", "snapkv,memory=1000"},
        Canonical{"full,type_k=bf16,type_v=bf16", "full,type=bf16"},
        Canonical{"full,type_k=f32", "full,type_k=f32"},
        Canonical{"full,type=q8_0", "full,type=int8"},
        Canonical{" SnapKV , MEMORY = 64mib, Type=Q4_0",
                  "snapkv,memory=64MiB,type=int4"},
        Canonical{"full,type_v=int2,type_k=int4",
                  "full,type_k=int4,type_v=int2"},
        Canonical{"full,type_k=int8,type_v=int8", "full,type=int8"},
        Canonical{"full,type_v=f32,type_k=f16", "full,type_v=f32"},
        Canonical{"mistral,sliding_window=0", "mistral,sliding_window=0"},
        Canonical{"snapkv,schedule=table,table=steps", "snapkv,schedule=table"},
        Canonical{"snapkv-wide,heads=equal,keep=1",
                  "snapkv-wide,keep=1,heads=equal"},
        Canonical{"full,positions=original,prefill=exact", "full"}));

// A random legal value for a key.
std::string RandomValue(std::string_view key, std::mt19937* rng) {
  const auto pick = [&](std::vector<std::string> values) {
    return values[(*rng)() % values.size()];
  };
  const auto number = [&](int low, int high) {
    return fmt::format("{}", low + static_cast<int>((*rng)() % (high - low)));
  };
  if (key == "keep" || key == "ratio" || key == "warmup" || key == "floor" ||
      key == "partial" || key == "fetch" || key == "resident") {
    return fmt::format("{}", ((*rng)() % 1000000 + 1) / 1000000.0);
  }
  if (key == "from") return pick({"1", "512", "1073741824"});
  if (key == "memory") return pick({"64MiB", "12345", "3KiB", "2GiB"});
  if (key == "schedule") {
    return pick({"uniform", "linear", "power", "table", "arithmetic"});
  }
  if (key == "mode") return pick({"exact", "reference", "kvpress"});
  if (key == "select") return pick({"mixed", "topk", "recent"});
  if (key == "heads") return pick({"equal", "adaptive", "global", "profile"});
  if (key == "pool") return pick({"avg", "max", "chunk"});
  if (key == "reduce") return pick({"mean", "max"});
  if (key == "group") return pick({"mean", "max", "sum"});
  if (key == "vnorm") return pick({"off", "v", "wo"});
  if (key == "evict") return pick({"prefill", "decode", "both"});
  if (key == "prefill") return pick({"exact", "streaming"});
  if (key == "remainder") return pick({"drop", "cluster", "offload"});
  if (key == "index") return pick({"sign", "skew", "quest", "cluster"});
  if (key == "victim") return pick({"fifo", "lru", "counter"});
  if (key == "alpha") return pick({"2.5", "4", "99"});
  if (key == "clusters") return pick({"0.5", "0.125", "7"});
  if (key == "merge") return pick({"mean", "attention", "cosine"});
  if (key == "positions") return pick({"original", "renumber"});
  if (key == "decay") return pick({"0.5", "0.98"});
  if (key == "variant") return pick({"sum", "observed"});
  if (key == "profile") return "heads.json";
  if (key.starts_with("type")) return pick({"f32", "f16", "bf16", "int8"});
  if (key == "top_type") return pick({"f16", "int8"});
  if (key == "top") return pick({"0.1", "0.5", "1"});
  if (key == "recent_type") return pick({"f32", "f16", "int8", "int2"});
  if (key == "scale") return pick({"token", "tensor", "channel"});
  if (key == "table") return pick({"steps", "0:1/1:0.25", "0.2:0.7"});
  if (key == "budgets") return pick({"5", "512:400:300"});
  if (key == "kernel") return pick({"1", "3", "5", "31"});
  if (key == "recent") return pick({"half", "0", "16", "32", "100"});
  return number(1, 300);
}

TEST(CacheSpecTest, RoundTripsRandomSpecs) {
  std::mt19937 rng(20240607);
  int accepted = 0;
  std::set<std::string> keys_seen;
  for (int trial = 0; trial < 160000; ++trial) {
    const auto presets = Presets();
    std::string text(presets[rng() % presets.size()].name);
    // Keys that need others beside them.
    if (trial % 8 == 0) text = "infinigen,index=skew";
    if (trial % 8 == 1) text = "h2o,remainder=cluster";
    if (trial % 8 == 2) text = "duo-attention,profile=heads.json";
    if (trial % 8 == 3) text = "keydiff,type=int4,top_type=int8";
    const int count = rng() % 6;
    for (int i = 0; i < count; ++i) {
      const SpecKey& key = SpecKeys()[rng() % SpecKeys().size()];
      text += fmt::format(",{}={}", key.name, RandomValue(key.name, &rng));
    }
    const Result<CacheSpec> spec = ParseCacheSpec(text);
    if (!spec.ok()) continue;
    ++accepted;
    const std::string canonical = FormatCacheSpec(*spec);
    const Result<CacheSpec> again = ParseCacheSpec(canonical);
    ASSERT_TRUE(again.ok())
        << text << " became " << canonical << ": " << again.status().message();
    ASSERT_EQ(*again, *spec) << text << " became " << canonical;
    ASSERT_EQ(FormatCacheSpec(*again), canonical);
    for (const SpecKey& key : SpecKeys()) {
      if (canonical.find(fmt::format(",{}=", key.name)) != std::string::npos) {
        keys_seen.insert(std::string(key.name));
      }
    }
  }
  EXPECT_GT(accepted, 1000);
  // `budgets` needs schedule=custom beside it (RoundTripsCustom).
  for (const SpecKey& key : SpecKeys()) {
    EXPECT_TRUE(key.name == "budgets" ||
                keys_seen.contains(std::string(key.name)))
        << key.name;
  }
}

TEST(CacheSpecTest, RoundTripsCustom) {
  const char* text = "snapkv,schedule=custom,budgets=512:400:300,warmup=0.3";
  EXPECT_EQ(FormatCacheSpec(Parsed(text)), text);
}

}  // namespace
}  // namespace pyramidkv
