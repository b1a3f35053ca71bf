#include "engine/kv/kv_staging.h"

#include <cstring>
#include <utility>

namespace winnow {

std::shared_ptr<KvStaging> ZeroedWhenFreed(std::unique_ptr<KvStaging> staging,
                                           std::shared_ptr<Executor> executor) {
  return std::shared_ptr<KvStaging>(staging.release(),
                                    [executor = std::move(executor)](KvStaging* unused) {
                                      executor->Add([owned = std::shared_ptr<KvStaging>(unused)] {
                                        for (const KvStaging::Rank& rank : owned->ranks) {
                                          if (rank.memory.bytes() > 0)
                                            std::memset(rank.memory.data(), 0, rank.memory.bytes());
                                        }
                                      });
                                    });
}

}  // namespace winnow
