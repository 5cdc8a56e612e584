// Threads that share the work of an op, one op after the other; the caller is one of them.
//
// An op is cut into chunks, and whoever is free claims the next. The caller waits for chunks to be done, never for a
// thread to show up: a thread that the system has put aside, or that sleeps, costs nothing unless it holds a chunk.
// Threads look out for the next op for about a millisecond, so that ops which follow each other closely wake nobody;
// then they sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <type_traits>

namespace apr {

class Pool {
 public:
  // The caller counts as one of the threads. Raises std::invalid_argument, std::system_error.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // Calls task(chunk, thread) for each chunk in [0, n_chunks), in any order; thread is in [0, threads()), and of one
  // `parallel` no two calls with the same one run at a time. Returns when all are done. A task throws nothing and does
  // not call back into the pool. Several callers wait for each other. After a fork, the child gets its own threads.
  template <class Task> void parallel(int64_t n_chunks, Task&& task) {
    if (n_chunks <= 1 || threads_ == 1) {
      for (int64_t chunk = 0; chunk < n_chunks; ++chunk) task(chunk, 0);
      return;
    }
    using Callable = std::remove_reference_t<Task>;
    run(n_chunks, [](void* context, int64_t chunk, int thread) { (*static_cast<Callable*>(context))(chunk, thread); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

 private:
  class Team;
  using Function = void (*)(void* context, int64_t chunk, int thread);

  void run(int64_t n_chunks, Function function, void* context);
  Team& team();

  const int threads_;
  std::atomic<Team*> team_;
};

}  // namespace apr
