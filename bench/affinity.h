#pragma once

#include <vector>

namespace winnow {

// Processors that this process may use; all that the container has when the calling thread is bound
// to fewer than `threads`.
std::vector<int> Processors(int threads);

// Binds the calling thread to one processor.
void PinTo(int cpu);

// While it lives, the OpenMP team of the calling thread has one processor per thread; then all may
// run anywhere again. Unbound, a scheduler may put two threads on one core: 4 of 60 measurements of
// a peak on two cores, none when bound. Scoped, since threads inherit the binding of the one that
// starts them. It does not help against other programs.
class BoundTeam {
 public:
  BoundTeam();
  ~BoundTeam();
  BoundTeam(const BoundTeam&) = delete;
  BoundTeam& operator=(const BoundTeam&) = delete;

 private:
  const std::vector<int> processors_;
};

}  // namespace winnow
