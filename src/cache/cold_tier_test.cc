#include "cache/cold_tier.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "cache/testing/cold_rows.h"
#include "cache/testing/resident_memory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

using ::testing::HasSubstr;

ColdTierOptions Options(double resident) {
  ColdTierOptions options;
  options.layers = 2;
  options.kv_heads = 2;
  options.format.head_dim = 64;
  options.format.entries = kBlockEntries;
  options.resident = resident;
  options.fetch = 1;
  options.alpha = 1e9;
  return options;
}

// Everything of a head, as `rows` has it.
void CheckAll(ColdTier* tier, const PageFormat& format, int layer, int head,
              const std::vector<ColdRow>& rows) {
  const std::vector<float> q(format.head_dim, 1);
  tier->Select(layer, head, q.data(), 1, 1);
  ColdView view;
  int done = 0;
  do {
    const Status status = tier->Fetch(layer, head, &view);
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_EQ(view.selected, static_cast<int>(rows.size()));
    ASSERT_EQ(view.first, done);
    ASSERT_EQ(done % kColdPartEntries, 0);
    for (int i = 0; i < view.length; ++i) {
      ASSERT_TRUE(ViewHas(format, view, i, rows[done + i])) << done + i;
    }
    done += view.length;
  } while (!view.last());
  ASSERT_EQ(done, static_cast<int>(rows.size()));
}

TEST(ColdTier, FetchOneAndALargeAlphaSelectAll) {
  for (const double resident : {0.0, 0.3, 1.0}) {
    const ColdTierOptions options = Options(resident);
    const auto tier = MakeExactTier(options);
    std::mt19937 random(1);
    std::vector<ColdRow> rows;
    for (const int count : {100, 1, 15, 3000}) {
      ASSERT_TRUE(
          AppendRandom(tier.get(), options.format, 1, 0, count, &random, &rows)
              .ok());
      CheckAll(tier.get(), options.format, 1, 0, rows);
    }
    EXPECT_EQ(tier->positions(1, 0)[99], 203);
    EXPECT_EQ(tier->entries(), 3116);
    tier->Clear();
    EXPECT_EQ(tier->entries(), 0);
    EXPECT_EQ(tier->file_bytes(), 0);
    EXPECT_EQ(tier->stats().steps, 4);
  }
}

TEST(ColdTier, WorksWithTheRealIndices) {
  ColdTierOptions options = Options(0.2);
  options.fetch = 0.1;
  const size_t d = options.format.head_dim;
  std::vector<float> skew(4 * d * d);  // unit matrices
  for (size_t i = 0; i < 4 * d; ++i) skew[i * d + i % d] = 1;
  options.skew = skew.data();
  options.partial = 0.5;
  for (const IndexKind kind : {IndexKind::kSign, IndexKind::kSkew,
                               IndexKind::kQuest, IndexKind::kCluster}) {
    options.index = kind;
    const auto tier = ColdTier::Create(options);
    ASSERT_TRUE(tier.ok());
    std::mt19937 random(2);
    std::vector<ColdRow> rows;
    ASSERT_TRUE(
        AppendRandom(tier->get(), options.format, 0, 1, 1000, &random, &rows)
            .ok());
    EXPECT_GT((*tier)->index_bytes(), 0);
    int found = 0;
    for (int i = 0; i < 1000; i += 10) {  // its own best key
      (*tier)->Select(0, 1, rows[i].k.data(), 1, 1);
      ColdView view;
      ASSERT_TRUE((*tier)->Fetch(0, 1, &view).ok());
      ASSERT_EQ(view.length, 6 * kBlockEntries + 8);
      bool has = false;
      for (int at = 0; at < view.length; ++at) {
        has = has || ViewHas(options.format, view, at, rows[i]);
      }
      found += has ? 1 : 0;
    }
    // Clusters know nothing of random keys.
    EXPECT_GT(found, kind == IndexKind::kCluster ? 10 : 50)
        << static_cast<int>(kind);
  }
}

TEST(ColdTier, AFailedReadFailsItsHeadAloneAndCanBeRetried) {
  Failures failures;
  ColdTierOptions options = Options(0.2);
  options.fetch = 0.2;
  const auto tier = MakeExactTier(options, &failures);
  std::mt19937 random(3);
  std::vector<ColdRow> rows[2];
  for (int h = 0; h < 2; ++h) {
    ASSERT_TRUE(
        AppendRandom(tier.get(), options.format, 0, h, 500, &random, &rows[h])
            .ok());
  }
  const std::vector<float> q(options.format.head_dim, 1);
  ColdView view;
  tier->Select(0, 0, q.data(), 1, 1);
  ASSERT_TRUE(tier->Fetch(0, 0, &view).ok());
  for (const bool ends : {false, true}) {
    failures.read_error = ends ? 0 : EIO;
    failures.reads_end = ends;
    tier->Select(0, 1, q.data(), 1, 1);
    for (int i = 0; i < 2; ++i) {
      const Status status = tier->Fetch(0, 1, &view);
      EXPECT_EQ(status.code(), StatusCode::kRuntime);
      EXPECT_THAT(status.message(), HasSubstr("cannot read"));
      EXPECT_TRUE(view.pages.empty());
    }
    // Blocks fetched before are still there.
    ASSERT_TRUE(tier->Fetch(0, 0, &view).ok());
    EXPECT_EQ(view.length, 6 * kBlockEntries + 500 % kBlockEntries);
    EXPECT_FALSE(tier->Decode(0, 1, nullptr, nullptr).ok());
  }
  failures.reads_end = false;
  const auto fetches = [&](int head) {
    tier->Select(0, head, q.data(), 1, 1);
    return tier->Fetch(0, head, &view).ok() && view.last() &&
           view.length >= 6 * kBlockEntries;
  };
  EXPECT_TRUE(fetches(1));
  ASSERT_TRUE(
      AppendRandom(tier.get(), options.format, 0, 1, 40, &random, &rows[1])
          .ok());
  EXPECT_TRUE(fetches(1));
  EXPECT_TRUE(fetches(0));
}

// A view that is there stays, whatever becomes of the next.
TEST(ColdTier, AFailedReadOfALaterView) {
  Failures failures;
  const ColdTierOptions options = Options(0.3);
  const auto tier = MakeExactTier(options, &failures);
  std::mt19937 random(12);
  std::vector<ColdRow> rows;
  ASSERT_TRUE(
      AppendRandom(tier.get(), options.format, 0, 0, 1600, &random, &rows)
          .ok());
  const std::vector<float> q(options.format.head_dim, 1);
  ColdView view;
  tier->Select(0, 0, q.data(), 1, 1);
  ASSERT_TRUE(tier->Fetch(0, 0, &view).ok());
  ASSERT_FALSE(view.last());
  failures.read_error = EIO;
  Status status;
  while (status.ok() && !view.last()) {
    for (int i = 0; i < view.length; ++i) {
      ASSERT_TRUE(ViewHas(options.format, view, i, rows[view.first + i]));
    }
    status = tier->Fetch(0, 0, &view);
  }
  EXPECT_EQ(status.code(), StatusCode::kRuntime);
  EXPECT_EQ(tier->Fetch(0, 0, &view).code(), StatusCode::kRuntime);
  failures.read_error = 0;
  CheckAll(tier.get(), options.format, 0, 0, rows);
}

TEST(ColdTier, AnAppendThatFailsChangesNothing) {
  for (const bool full : {false, true}) {
    Failures failures;
    const ColdTierOptions options = Options(0.1);
    const auto tier = MakeExactTier(options, &failures);
    std::mt19937 random(4);
    std::vector<ColdRow> rows;
    const auto append = [&](int count) {
      return AppendRandom(tier.get(), options.format, 1, 1, count, &random,
                          &rows);
    };
    for (int round = 0; round < 6; ++round) {
      ASSERT_TRUE(append(1 + round * 7).ok());
      const size_t before = rows.size();
      failures.write_error = full ? 0 : EIO;
      failures.writes_until_error = round % 3;
      failures.disk_bytes = full ? tier->file_bytes() : int64_t{1} << 40;
      const Status status = append(full ? 36000 : 4000);
      EXPECT_EQ(status.code(), StatusCode::kRuntime);
      EXPECT_THAT(status.message(),
                  HasSubstr(full ? "more bytes in" : "cannot write"));
      EXPECT_EQ(rows.size(), before);
      failures.write_error = 0;
      failures.disk_bytes = int64_t{1} << 40;
      ASSERT_EQ(tier->length(1, 1), static_cast<int>(rows.size()));
      ASSERT_EQ(tier->positions(1, 1).size(), rows.size());
      CheckAll(tier.get(), options.format, 1, 1, rows);
    }
  }
}

TEST(ColdTier, EndsWithReadsUnderWay) {
  const ColdTierOptions options = Options(0.1);
  const std::vector<float> q(options.format.head_dim, 1);
  for (int round = 0; round < 30; ++round) {
    const auto tier = MakeExactTier(options);
    std::mt19937 random(round);
    std::vector<ColdRow> rows;
    for (int h = 0; h < 4; ++h) {
      rows.clear();
      ASSERT_TRUE(AppendRandom(tier.get(), options.format, h / 2, h % 2, 700,
                               &random, &rows)
                      .ok());
      tier->Select(h / 2, h % 2, q.data(), 1, 1);
    }
    if (round % 3 == 0) continue;
    tier->Clear();
    rows.clear();
    ASSERT_TRUE(
        AppendRandom(tier.get(), options.format, 0, 0, 700, &random, &rows)
            .ok());
    CheckAll(tier.get(), options.format, 0, 0, rows);
  }
}

// Runs `body` in a child; true if it ended with 0.
bool InChild(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// As on a disk that is full, from the system itself.
TEST(ColdTier, MayNotGrowPastWhatTheSystemAllows) {
  EXPECT_TRUE(InChild([] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_FSIZE, &limit);
    const ColdTierOptions options = Options(0.1);
    const auto tier = MakeExactTier(options);
    std::mt19937 random(5);
    std::vector<ColdRow> rows;
    Status status;
    while (status.ok() && rows.size() < 100000) {
      status =
          AppendRandom(tier.get(), options.format, 0, 0, 100, &random, &rows);
    }
    // Nearly all of it was used.
    const size_t room = limit.rlim_cur / options.format.page_bytes() * 16;
    const bool used = rows.size() > room - 300 && rows.size() < room + 16;
    std::vector<float> v(rows.size() * 64);
    return status.code() == StatusCode::kRuntime && used &&
           tier->Decode(0, 0, nullptr, v.data()).ok() &&
           std::equal(rows.back().v.begin(), rows.back().v.end(), v.end() - 64);
  }));
}

// A disk of 1 MiB that really runs full. 2: such a disk cannot be had here.
int FillSmallDisk(const std::string& directory) {
  if (unshare(CLONE_NEWNS) != 0 ||
      mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("none", directory.c_str(), "tmpfs", 0, "size=1m") != 0) {
    return 2;
  }
  ColdTierOptions options = Options(0.1);
  options.directory = directory;
  const auto tier = MakeExactTier(options);
  std::mt19937 random(5);
  std::vector<ColdRow> rows;
  Status status;
  while (status.ok() && rows.size() < 100000) {
    status =
        AppendRandom(tier.get(), options.format, 0, 0, 100, &random, &rows);
  }
  std::vector<float> v(rows.size() * 64);
  const bool named = status.message().find(directory) != std::string::npos;
  return status.code() == StatusCode::kRuntime && named && rows.size() > 3800 &&
                 tier->Decode(0, 0, nullptr, v.data()).ok() &&
                 std::equal(rows.back().v.begin(), rows.back().v.end(),
                            v.end() - 64)
             ? 0
             : 1;
}

TEST(ColdTier, SurvivesADiskThatRunsFull) {
  char name[] = "/tmp/cold_tier_test_XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  const pid_t child = fork();
  if (child == 0) _exit(FillSmallDisk(name));
  int status = 0;
  waitpid(child, &status, 0);
  std::filesystem::remove(name);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) GTEST_SKIP() << "may not mount a disk";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Selects, fetches and appends until it is killed.
[[noreturn]] void RunUntilKilled(const std::string& directory) {
  ColdTierOptions options = Options(0.1);
  options.directory = directory;
  for (;;) {
    const auto tier = MakeExactTier(options);
    std::mt19937 random(6);
    std::vector<ColdRow> rows;
    const std::vector<float> q(options.format.head_dim, 1);
    for (int i = 0; i < 20; ++i) {
      ColdView view;
      if (!AppendRandom(tier.get(), options.format, 0, 0, 90, &random, &rows)
               .ok()) {
        _exit(1);
      }
      tier->Select(0, 0, q.data(), 1, 1);
      if (!tier->Fetch(0, 0, &view).ok()) _exit(1);
    }
  }
}

void KillAgainAndAgain(int times) {
  char name[] = "/tmp/cold_tier_test_XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  std::mt19937 random(7);
  for (int i = 0; i < times; ++i) {
    const pid_t child = fork();
    if (child == 0) RunUntilKilled(name);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 30));
    EXPECT_EQ(kill(child, SIGKILL), 0);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status));
    ASSERT_TRUE(std::filesystem::is_empty(name)) << i;
  }
  std::filesystem::remove(name);
}

TEST(ColdTier, AKilledProcessLeavesNoFile) { KillAgainAndAgain(30); }
// By hand: --gtest_also_run_disabled_tests.
TEST(ColdTier, DISABLED_AKilledProcessLeavesNoFileSlow) {
  KillAgainAndAgain(300);
}

TEST(ColdTier, BytesAreWhatTheProcessHolds) {
  if (!kResidentMemoryIsOurs) GTEST_SKIP() << "sanitizers keep shadows";
  ColdTierOptions options = Options(0.1);
  options.fetch = 0.05;
  const auto made = ColdTier::Create(options);
  ASSERT_TRUE(made.ok());
  ColdTier* const tier = made->get();
  std::mt19937 random(8);
  const std::vector<float> rows = RandomFloats(size_t{1000} * 64, &random);
  const std::vector<int32_t> positions(1000);
  const int64_t before = ResidentBytes();
  for (int i = 0; i < 200; ++i) {  // 50 MB in all heads
    ASSERT_TRUE(tier->Append(i / 2 % 2, i % 2, 1000, rows.data(), rows.data(),
                             64, positions.data())
                    .ok());
  }
  ASSERT_TRUE(tier->Settle().ok());
  EXPECT_EQ(tier->entries(), 200000);
  constexpr int64_t kMiB = int64_t{1} << 20;
  const auto blocks = static_cast<int64_t>(200000 / kBlockEntries / 10 *
                                           options.format.page_bytes());
  EXPECT_LT(tier->bytes(), blocks + 6 * kMiB);
  EXPECT_NEAR(static_cast<double>(ResidentBytes() - before),
              static_cast<double>(tier->bytes()), 4.0 * kMiB);
  for (int i = 0; i < 200; ++i) {
    tier->Select(i / 2 % 2, i % 2, &rows[i * 64], 1, 1);
    ColdView view;
    ASSERT_TRUE(tier->Fetch(i / 2 % 2, i % 2, &view).ok());
  }
  EXPECT_GT(tier->stats().read_blocks, 0);
  EXPECT_NEAR(static_cast<double>(ResidentBytes() - before),
              static_cast<double>(tier->bytes()), 4.0 * kMiB);
}

// A step selects all of 40 MiB: memory never holds more than its share.
TEST(ColdTier, HoldsNoMoreThanItsShareWhateverIsSelected) {
  if (!kResidentMemoryIsOurs) GTEST_SKIP() << "sanitizers keep shadows";
  for (const Victim victim : {Victim::kCounter, Victim::kLru, Victim::kFifo}) {
    ColdTierOptions options = Options(0.25);
    options.victim = victim;
    const auto tier = MakeExactTier(options);
    std::mt19937 random(10);
    std::vector<ColdRow> rows;
    ASSERT_TRUE(
        AppendRandom(tier.get(), options.format, 0, 0, 160000, &random, &rows)
            .ok());
    rows = {};
    ASSERT_TRUE(tier->Settle().ok());
    const int64_t before = tier->bytes();
    const int64_t resident = ResidentBytes();
    const std::vector<float> q(64);
    constexpr int64_t kMiB = int64_t{1} << 20;
    ColdView view;
    for (int step = 0; step < 4; ++step) {
      int read = 0, views = 0;
      tier->Select(0, 0, q.data(), 1, 1);
      do {
        ASSERT_TRUE(tier->Fetch(0, 0, &view).ok());
        read += view.length;
        ++views;
        EXPECT_LE(view.length, 160000 / 8);
        ASSERT_LT(tier->bytes() - before, 3 * kMiB);
        ASSERT_LT(ResidentBytes() - resident, 4 * kMiB);
      } while (!view.last());
      EXPECT_EQ(read, 160000);
      EXPECT_GE(views, 8);
    }
    // Passing blocks do not push out those used as often.
    const ColdTierStats stats = tier->stats();
    const double hits =
        1 - double(stats.read_blocks) / double(stats.selected_blocks);
    EXPECT_LT(hits, 0.25);
    EXPECT_GT(hits, victim == Victim::kCounter ? 0.1 : -1);
  }
}

TEST(ColdTierThreaded, HeadsAreSelectedAndFetchedInParallel) {
  ColdTierOptions options = Options(0.1);
  options.format.head_dim = 16;
  options.fetch = 0.1;
  for (const int readers : {0, 1, 4}) {
    Failures failures;
    const auto tier = MakeExactTier(options, &failures, readers);
    std::mt19937 random(9);
    std::vector<ColdRow> rows[4];
    for (int h = 0; h < 4; ++h) {
      ASSERT_TRUE(AppendRandom(tier.get(), options.format, h / 2, h % 2, 600,
                               &random, &rows[h])
                      .ok());
    }
    const auto work = [&](int h) {
      std::mt19937 mine(h);
      for (int i = 0; i < 100; ++i) {
        const std::vector<float> q = RandomFloats(16, &mine);
        tier->Select(h / 2, h % 2, q.data(), 1, 1);
        if (i % 7 == 0) continue;
        ColdView view;
        const Status status = tier->Fetch(h / 2, h % 2, &view);
        if (i % 10 == 3 && h == 0) failures.read_error = EIO;
        if (i % 10 == 5 && h == 0) failures.read_error = 0;
        if (!status.ok()) continue;
        for (int at = 0; at < view.length; at += kBlockEntries) {
          bool found = false;
          for (const ColdRow& row : rows[h]) {
            found = found || ViewHas(options.format, view, at, row);
          }
          EXPECT_TRUE(found);
        }
      }
    };
    std::vector<std::thread> threads;
    for (int h = 0; h < 4; ++h) threads.emplace_back(work, h);
    for (std::thread& thread : threads) thread.join();
    failures.read_error = 0;
    EXPECT_EQ(tier->stats().steps, 400);
    EXPECT_GE(tier->stats().read_seconds, tier->stats().stall_seconds);
  }
}

}  // namespace
}  // namespace pyramidkv
