#include "bench/affinity.h"

#include <omp.h>
#include <sched.h>

#include <cstring>

namespace winnow {
namespace {

void Bind(const std::vector<int>& processors) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : processors) CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

}  // namespace

std::vector<int> Processors(int threads) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof(allowed), &allowed);
  if (CPU_COUNT(&allowed) < threads) {
    const cpu_set_t before = allowed;
    std::memset(&allowed, 0xFF, sizeof(allowed));
    sched_setaffinity(0, sizeof(allowed), &allowed);  // the kernel keeps what the container may use
    sched_getaffinity(0, sizeof(allowed), &allowed);
    sched_setaffinity(0, sizeof(before), &before);
  }
  std::vector<int> processors;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) processors.push_back(cpu);
  }
  return processors;
}

void PinTo(int cpu) { Bind({cpu}); }

BoundTeam::BoundTeam() : processors_(Processors(omp_get_max_threads())) {
  if (processors_.empty()) return;
#pragma omp parallel
  PinTo(processors_[omp_get_thread_num() % processors_.size()]);
}

BoundTeam::~BoundTeam() {
  if (processors_.empty()) return;
#pragma omp parallel
  Bind(processors_);
}

}  // namespace winnow
