#include "engine/kv/kv_staging.h"

#include <algorithm>
#include <future>
#include <vector>

#include "gtest/gtest.h"

namespace winnow {
namespace {

TEST(KvStagingTest, FreedStagingIsZeroOnEveryRankWhenItsMemoryGoesBack) {
  std::vector<std::vector<uint8_t>> memory(2, std::vector<uint8_t>(1000, 0xAB));
  std::vector<std::promise<int64_t>> left(memory.size());  // bytes that are not zero at the end
  auto executor = std::make_shared<Executor>("zero", 1);
  {
    auto staging = std::make_unique<KvStaging>();
    for (size_t rank = 0; rank < memory.size(); ++rank) {
      const auto release = [&, rank](void*) {
        left[rank].set_value(std::count_if(memory[rank].begin(), memory[rank].end(),
                                           [](uint8_t byte) { return byte != 0; }));
      };
      staging->ranks.push_back({{}, {}, Buffer(memory[rank].data(), memory[rank].size(), release)});
    }
    staging->ranks.emplace_back();  // a rank that ships nothing
    const std::shared_ptr<KvStaging> used = ZeroedWhenFreed(std::move(staging), executor);
    EXPECT_EQ(memory[0][0], 0xAB);  // untouched while it is held
  }
  for (std::promise<int64_t>& each : left) EXPECT_EQ(each.get_future().get(), 0);
}

}  // namespace
}  // namespace winnow
