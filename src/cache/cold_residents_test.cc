#include "cache/cold_residents.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace pyramidkv {
namespace {

// Pages are only passed through.
std::byte* PageOf(int block) {
  static std::vector<std::byte> bytes(1000);
  return bytes.data() + block;
}
int BlockOf(const std::byte* page) {
  return static_cast<int>(page - PageOf(0));
}

std::vector<int> Evict(ColdResidents* residents, int count, int spared) {
  std::vector<std::byte*> pages;
  residents->Evict(count, spared, &pages);
  std::vector<int> blocks;
  for (const std::byte* page : pages) blocks.push_back(BlockOf(page));
  std::sort(blocks.begin(), blocks.end());
  return blocks;
}

void Use(ColdResidents* residents, const std::vector<int32_t>& blocks) {
  std::vector<int32_t> missing;
  residents->Use(blocks, &missing);
  for (const int32_t b : missing) residents->AddUsed(b, PageOf(b));
}

ColdResidents Four(Victim victim) {
  ColdResidents residents(victim);
  for (int b = 0; b < 4; ++b) residents.Add(b, PageOf(b));
  Use(&residents, {0, 1});
  Use(&residents, {0, 3});
  Use(&residents, {2});
  return residents;
}
using Blocks = std::vector<int>;

TEST(ColdResidents, FifoIsInTheOrderOfComing) {
  ColdResidents residents = Four(Victim::kFifo);
  EXPECT_EQ(Evict(&residents, 2, 0), (Blocks{0, 1}));
  residents.AddUsed(0, PageOf(0));
  EXPECT_EQ(Evict(&residents, 2, 0), (Blocks{2, 3}));
}

TEST(ColdResidents, LruIsInTheOrderOfUse) {
  ColdResidents residents = Four(Victim::kLru);
  EXPECT_EQ(Evict(&residents, 1, 0), (Blocks{1}));
  EXPECT_EQ(Evict(&residents, 1, 0), (Blocks{0}));
  EXPECT_EQ(Evict(&residents, 1, 0), (Blocks{3}));
}

TEST(ColdResidents, CounterIsByNumberOfUses) {
  ColdResidents residents = Four(Victim::kCounter);
  EXPECT_EQ(Evict(&residents, 3, 0), (Blocks{1, 2, 3}));
}

TEST(ColdResidents, WhatTheLastStepsUsedCanBeSpared) {
  for (const Victim victim : {Victim::kFifo, Victim::kLru, Victim::kCounter}) {
    ColdResidents residents = Four(victim);
    Use(&residents, {0, 7});
    EXPECT_EQ(Evict(&residents, 2, 2), (Blocks{1, 3}));
    EXPECT_EQ(Evict(&residents, 1, 1), (Blocks{2}));
    EXPECT_NE(residents.page(0), nullptr);
    EXPECT_NE(residents.page(7), nullptr);
  }
}

TEST(ColdResidents, WhatHasPassedLeavesLastComeFirst) {
  for (const Victim victim : {Victim::kFifo, Victim::kLru, Victim::kCounter}) {
    ColdResidents residents = Four(victim);
    const uint32_t since = residents.next_step();
    Use(&residents, {0, 7});
    Use(&residents, {8});
    Use(&residents, {9});
    Use(&residents, {3});
    const auto evict = [&](int count, int spared) {
      std::vector<std::byte*> pages;
      residents.EvictPassed(count, since, spared, &pages);
      Blocks blocks;
      for (const std::byte* page : pages) blocks.push_back(BlockOf(page));
      std::sort(blocks.begin(), blocks.end());
      return blocks;
    };
    EXPECT_EQ(evict(1, 2), (Blocks{8}));
    EXPECT_EQ(evict(9, 2), (Blocks{0, 7}));
    EXPECT_EQ(evict(9, 2), Blocks());
    EXPECT_EQ(residents.size(), 4);  // 1, 2, 3 and 9
  }
}

TEST(ColdResidents, CountersAreHalvedTogether) {
  ColdResidents residents(Victim::kCounter);
  for (int b = 0; b < 3; ++b) residents.Add(b, PageOf(b));
  for (int i = 0; i < 200; ++i) Use(&residents, {1});
  for (int i = 0; i < 256; ++i) Use(&residents, {0});  // 128, and 100 for 1
  for (int i = 0; i < 110; ++i) Use(&residents, {2});
  EXPECT_EQ(Evict(&residents, 1, 0), (Blocks{1}));
  EXPECT_EQ(Evict(&residents, 1, 0), (Blocks{2}));
}

// A dumb model: the list of resident blocks in the order of their coming.
struct Model {
  struct Item {
    int block, step, uses;
  };
  Victim victim;
  int step = 1;
  std::vector<Item> items;

  Item* Find(int block) {
    for (Item& i : items) {
      if (i.block == block) return &i;
    }
    return nullptr;
  }
  void Use(const std::vector<int32_t>& blocks) {
    ++step;
    std::vector<int> missing;
    for (const int b : blocks) {
      Item* const item = Find(b);
      if (item == nullptr) {
        missing.push_back(b);
        continue;
      }
      if (item->uses == 255) {
        for (Item& i : items) i.uses /= 2;
      }
      ++item->uses;
      item->step = step;
    }
    for (const int b : missing) items.push_back({b, step, 1});
  }
  int EvictOne(int spared) {
    Item* worst = nullptr;
    for (Item& i : items) {
      if (i.step > step - spared) continue;
      const bool worse = worst == nullptr ||
                         (victim == Victim::kLru && i.step < worst->step) ||
                         (victim == Victim::kCounter && i.uses < worst->uses);
      if (worse) worst = &i;
    }
    const int block = worst->block;
    items.erase(items.begin() + (worst - items.data()));
    return block;
  }
};

TEST(ColdResidents, DoWhatADumbModelDoes) {
  for (const Victim victim : {Victim::kFifo, Victim::kLru, Victim::kCounter}) {
    const uint32_t seed = 11 + static_cast<uint32_t>(victim);
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    ColdResidents residents(victim);
    Model model{victim, 1, {}};
    int blocks = 0;
    for (int step = 0; step < 3000; ++step) {
      if (random() % 8 == 0 && blocks < 900) {
        residents.Add(blocks, PageOf(blocks));
        model.items.push_back({blocks++, model.step - 1, 0});
      } else {
        std::vector<int32_t> used;
        for (int b = 0; b < blocks; ++b) {
          if (random() % 16 == 0) used.push_back(b);
        }
        Use(&residents, used);
        model.Use(used);
      }
      ASSERT_EQ(residents.size(), static_cast<int>(model.items.size()));
      const int spared = static_cast<int>(random() % 3);
      int count = 0;
      for (const Model::Item& i : model.items) {
        count += i.step <= model.step - spared;
      }
      count = std::min<int>(count, std::max(0, residents.size() - 40));
      Blocks want;
      for (int i = 0; i < count; ++i) want.push_back(model.EvictOne(spared));
      std::sort(want.begin(), want.end());
      ASSERT_EQ(Evict(&residents, count, spared), want);
      for (const Model::Item& i : model.items) {
        ASSERT_EQ(residents.page(i.block), PageOf(i.block));
      }
    }
  }
}

}  // namespace
}  // namespace pyramidkv
