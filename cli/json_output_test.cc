#include "cli/json_output.h"

#include "gtest/gtest.h"

namespace pyramidkv::cli {
namespace {

TEST(TimingsTest, NullWhereThereIsNothingToMeasure) {
  Generation generation;
  Json json = TimingsJson(MakeTimings(1, 100, 50, generation));
  EXPECT_EQ(json["prefill_tokens_per_s"], 500.0);
  EXPECT_TRUE(json["ttft_ms"].is_null());
  generation.tokens.resize(1);
  generation.first_token_ms = 5;
  json = TimingsJson(MakeTimings(1, 100, 50, generation));
  EXPECT_EQ(json["ttft_ms"], 105.0);
  EXPECT_TRUE(json["tpot_ms"].is_null());
  generation.tokens.resize(11);
  generation.decode_ms = 200;
  json = TimingsJson(MakeTimings(1, 100, 50, generation));
  EXPECT_EQ(json["tpot_ms"], 20.0);
  EXPECT_EQ(json["decode_tokens_per_s"], 50.0);
}

TEST(KvJsonTest, KeysInOrderAndNulls) {
  KvReport report;
  report.layers.resize(1);
  report.layers[0].kept = {1, 2};
  const Json json = KvJson(report);
  std::string keys;
  for (const auto& [key, value] : json.items()) keys += key + " ";
  EXPECT_EQ(keys,
            "requested spec policy prefill prefill_mass tokens_seen "
            "tokens_kept_mean entries_kept entries_full bytes bytes_full "
            "peak_bytes retained_mass warnings layers tier ");
  EXPECT_TRUE(json["tier"].is_null());
  EXPECT_TRUE(json["retained_mass"].is_null());
  EXPECT_EQ(json["warnings"], Json::array());
  EXPECT_EQ(json["layers"][0].dump(),
            "{\"layer\":0,\"budget\":null,\"kept\":[1,2],\"bytes\":0,"
            "\"retained_mass\":null}");
}

TEST(LogprobsJsonTest, Shape) {
  const std::vector<GeneratedToken> tokens = {{7, -0.5f, {{7, -0.5f}}},
                                              {8, 0, {}}};
  EXPECT_EQ(TokenIdsJson(tokens).dump(), "[7,8]");
  EXPECT_EQ(
      LogprobsJson(tokens)[0].dump(),
      "{\"id\":7,\"logprob\":-0.5,\"top\":[{\"id\":7,\"logprob\":-0.5}]}");
  EXPECT_EQ(LogprobsJson({}).dump(), "[]");
}

TEST(DumpTest, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(Dump({{"text", "a\xff"}}), "{\"text\":\"a\xef\xbf\xbd\"}\n");
}

}  // namespace
}  // namespace pyramidkv::cli
