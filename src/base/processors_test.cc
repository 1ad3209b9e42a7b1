#include "base/processors.h"

#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "base/thread_pool.h"
#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

namespace fs = std::filesystem;

// A directory with the files of /proc and /sys that the quota is read from.
class QuotaTest : public testing::Test {
 protected:
  QuotaTest() {
    const auto* const info =
        testing::UnitTest::GetInstance()->current_test_info();
    root_ =
        fs::path(testing::TempDir()) /
        (std::string("quota.") + info->name() + "." + std::to_string(getpid()));
  }
  ~QuotaTest() override { fs::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const fs::path full = root_ / path;
    fs::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void WriteVersion2(const std::string& group, const std::string& mounted) {
    Write("proc/self/cgroup", "0::" + group + "\n");
    Write("proc/self/mountinfo",
          "22 1 0:20 / /proc rw - proc proc rw\n"
          "29 23 0:26 " +
              mounted +
              " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  }
  void WriteVersion1(const std::string& group, const std::string& mounted) {
    Write("proc/self/cgroup",
          "9:cpuset:/elsewhere\n4:cpu,cpuacct:" + group + "\n0::/\n");
    Write("proc/self/mountinfo",
          "30 25 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
          "31 25 0:32 " +
              mounted +
              " /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n");
  }
  int Processors() const { return QuotaProcessors(root_.string()); }

  fs::path root_;
};

TEST_F(QuotaTest, NoFilesAreNoLimit) { EXPECT_EQ(Processors(), 0); }

TEST_F(QuotaTest, Version2) {
  const std::pair<const char*, int> cases[] = {
      {"max 100000\n", 0},    {"200000 100000\n", 2},
      {"250000 100000\n", 2}, {"50000 100000\n", 1},
      {"75000 25000\n", 3},   {"nonsense\n", 0},
      {"100000\n", 0},        {"", 0},
      {"100000 0\n", 0},      {"-1 100000\n", 0}};
  WriteVersion2("/", "/");
  for (const auto& [text, processors] : cases) {
    Write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(Processors(), processors) << text;
  }
}

TEST_F(QuotaTest, TheLeastOfTheGroupsAboveCounts) {
  WriteVersion2("/user/job/part", "/");
  Write("sys/fs/cgroup/user/job/part/cpu.max", "500000 100000\n");
  Write("sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
  EXPECT_EQ(Processors(), 5);
  Write("sys/fs/cgroup/user/cpu.max", "300000 100000\n");
  EXPECT_EQ(Processors(), 3);
  Write("sys/fs/cgroup/user/job/part/cpu.max", "200000 100000\n");
  EXPECT_EQ(Processors(), 2);
}

TEST_F(QuotaTest, AContainerSeesItsGroupAtTheMountPoint) {
  WriteVersion2("/docker/1234/inner", "/docker/1234");
  Write("sys/fs/cgroup/inner/cpu.max", "max 100000\n");
  Write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(Processors(), 4);
  // A group outside: the mount point is all that can be seen.
  WriteVersion2("/other", "/docker/1234");
  EXPECT_EQ(Processors(), 4);
}

TEST_F(QuotaTest, Version1) {
  WriteVersion1("/job", "/");
  Write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Processors(), 0);
  Write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "350000\n");
  EXPECT_EQ(Processors(), 3);
  WriteVersion1("/docker/1234", "/docker/1234");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
  EXPECT_EQ(Processors(), 2);
}

// The processors that the calling thread is bound to.
std::set<int> OwnMask() {
  cpu_set_t set;
  EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  std::set<int> processors;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) processors.insert(i);
  }
  return processors;
}

void BindTo(const std::set<int>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int i : processors) CPU_SET(i, &set);
  ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
}

TEST(ProcessorsThreaded, AMaskIsCounted) {
  const std::set<int> all = OwnMask();
  std::thread([&] {
    BindTo({*all.rbegin()});
    EXPECT_EQ(UsableProcessors(), std::vector<int>{*all.rbegin()});
    EXPECT_EQ(UsableThreads(), 1);
  }).join();
  EXPECT_LE(UsableThreads(), static_cast<int>(all.size()));
}

// For the processes that AskChild starts: a line of the threads that may run,
// then a line of each worker's mask.
TEST(ProcessorsThreadedChild, DISABLED_Report) {
  const int threads = UsableThreads();
  std::mutex mutex;
  std::map<int, std::set<int>> masks;
  {
    ThreadPool pool(threads, [&](int worker) {
      if (worker > 0) BindWorker(worker);
      const std::lock_guard<std::mutex> lock(mutex);
      masks[worker] = OwnMask();
    });
  }
  std::printf("threads %d\n", threads);
  for (const auto& [worker, mask] : masks) {
    std::printf("mask");
    for (const int processor : mask) std::printf(" %d", processor);
    std::printf("\n");
  }
}

struct Report {
  int threads = 0;
  std::vector<std::set<int>> masks;  // [threads]
};

// A new process with these variables reports, started from a thread that is
// bound to `mask`.
Report AskChild(const std::string& variables, const std::set<int>& mask) {
  Report report;
  std::thread([&] {
    BindTo(mask);
    const std::string command = variables + " '" +
                                fs::read_symlink("/proc/self/exe").string() +
                                "' --gtest_filter=ProcessorsThreadedChild.*"
                                " --gtest_also_run_disabled_tests";
    FILE* const pipe = popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    char line[4096];
    while (std::fgets(line, sizeof(line), pipe) != nullptr) {
      std::istringstream words(line);
      std::string word;
      words >> word;
      if (word == "threads") words >> report.threads;
      if (word != "mask") continue;
      report.masks.emplace_back();
      for (int i; words >> i;) report.masks.back().insert(i);
    }
    EXPECT_EQ(pclose(pipe), 0);
  }).join();
  return report;
}

TEST(ProcessorsThreaded, WorkersKeepTheMaskOfTheProcess) {
  const std::set<int> all = OwnMask();
  const Report report = AskChild("env -u OMP_PROC_BIND", all);
  ASSERT_EQ(static_cast<int>(report.masks.size()), report.threads);
  for (const std::set<int>& mask : report.masks) EXPECT_EQ(mask, all);
}

TEST(ProcessorsThreaded, WorkersOfBoundThreadsHaveDifferentMasks) {
  const std::set<int> all = OwnMask();
  std::string list = "GOMP_CPU_AFFINITY=";
  for (const int i : all) list += std::to_string(i) + ",";
  list.pop_back();
  const int quota = QuotaProcessors();
  const int all_count = static_cast<int>(all.size());
  const int expected = quota > 0 ? std::min(quota, all_count) : all_count;
  for (const std::string& variables :
       {std::string("OMP_PROC_BIND=true"), std::string("OMP_PLACES=threads"),
        list}) {
    const Report report = AskChild(variables, all);
    EXPECT_EQ(report.threads, expected) << variables;
    const std::set<std::set<int>> different(report.masks.begin(),
                                            report.masks.end());
    EXPECT_EQ(static_cast<int>(different.size()), expected) << variables;
    for (const std::set<int>& mask : different) EXPECT_EQ(mask.size(), 1u);
  }
}

TEST(ProcessorsThreaded, AMaskOfTheUserHoldsWhereThreadsAreBound) {
  const int last = *OwnMask().rbegin();
  for (const char* variables : {"OMP_PROC_BIND=true", "OMP_PROC_BIND=false"}) {
    const Report report = AskChild(variables, {last});
    EXPECT_EQ(report.threads, 1) << variables;
    EXPECT_EQ(report.masks, std::vector<std::set<int>>{{last}}) << variables;
  }
}

}  // namespace
}  // namespace pyramidkv
