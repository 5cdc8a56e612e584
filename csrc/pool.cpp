#include "pool.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <condition_variable>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace apr {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kPausesPerLook = 64;       // between two looks at the clock
constexpr int kPausesBeforeYield = 500;  // some 20 us: beyond it, the processor is offered to others who wait for it
constexpr auto kLookOut = std::chrono::microseconds(1000);       // longer than most of what lies between two tokens
constexpr auto kLookOutCrowded = std::chrono::microseconds(20);  // with more threads than cores

inline void pause() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // yield returns at once on most cores
#else
  std::this_thread::yield();
#endif
}

// A number that threads can sleep on until it changes.
class Bell {
 public:
#if defined(__linux__)
  uint32_t value() const { return value_.load(); }
  void ring() {
    value_.fetch_add(1);
    syscall(SYS_futex, &value_, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
  }
  void wait(uint32_t seen) {
    while (value_.load() == seen) syscall(SYS_futex, &value_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
  }

 private:
  std::atomic<uint32_t> value_{0};
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "the system reads it as a plain number");
#else
  uint32_t value() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return value_;
  }
  void ring() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++value_;
    }
    condition_.notify_all();
  }
  void wait(uint32_t seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    condition_.wait(lock, [&] { return value_ != seen; });
  }

 private:
  uint32_t value_ = 0;
  std::mutex mutex_;
  std::condition_variable condition_;
#endif
};

std::atomic<int> forks{0};  // how many lie between the process that loaded this library and this one

void count_forks() {
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1); });
  (void)registered;
#endif
}

// New threads take no signals: Python's handlers belong on the caller's threads.
class SignalsBlocked {
 public:
#if !defined(_WIN32)
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#endif
};

}  // namespace

// The threads of one process, and the op that they work on.
//
// `claim_` says which op is on (a running number, the upper half) and how many of its chunks nobody has claimed (the
// lower half). A thread claims by lowering it by one, in a compare-and-swap. The lower half of a finished op is 0, so
// nothing can be claimed while the next op's fields are written. A late thread may read fields of two ops, but then the
// number has moved on and its swap fails. Fields are stored with release and loaded with acquire for this argument:
// who sees a newer field sees that the older op's word is gone.
class Pool::Team {
 public:
  Team(int threads, int fork) : fork_(fork) {
    const bool is_crowded = unsigned(threads) > std::max(1u, std::thread::hardware_concurrency());
    look_out_ = is_crowded ? kLookOutCrowded : kLookOut;
    const SignalsBlocked blocked;
    try {
      for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { serve(thread); });
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Team() { stop(); }

  int fork() const { return fork_; }

  void run(uint32_t n_chunks, Function function, void* context) {
    const std::lock_guard<std::mutex> lock(caller_);
    function_.store(function, std::memory_order_release);
    context_.store(context, std::memory_order_release);
    n_chunks_.store(n_chunks, std::memory_order_release);
    done_.store(0, std::memory_order_relaxed);
    const uint64_t op = (claim_.load(std::memory_order_relaxed) >> 32) + 1;
    claim_.store(op << 32 | n_chunks);  // sequentially consistent, as is sleepers_: see sleep()
    if (sleepers_.load() > 0) {
      sleepers_.store(0);  // so that the ops which follow do not ring for threads that are just waking up
      bell_.ring();
    }
    work(0);
    for (int pauses = 0; done_.load(std::memory_order_acquire) != n_chunks;) {
      if (pauses == kPausesBeforeYield) {
        std::this_thread::yield();
      } else {
        pause();
        ++pauses;
      }
    }
  }

 private:
  static uint32_t unclaimed(uint64_t word) { return uint32_t(word); }

  // Claims and does chunks until there are none.
  void work(int thread) {
    uint64_t word = claim_.load(std::memory_order_acquire);
    while (unclaimed(word) > 0) {
      const Function function = function_.load(std::memory_order_acquire);
      void* context = context_.load(std::memory_order_acquire);
      const uint32_t n_chunks = n_chunks_.load(std::memory_order_acquire);
      if (!claim_.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      function(context, int64_t(n_chunks - unclaimed(word)), thread);
      done_.fetch_add(1, std::memory_order_release);
      word = claim_.load(std::memory_order_acquire);
    }
  }

  void serve(int thread) {
    while (!is_stopping_.load()) {
      work(thread);
      if (!sees_work()) sleep();
    }
  }

  // Looks out for work for a while; each op that passes by meanwhile, though others did it all, starts the while anew.
  bool sees_work() const {
    using Clock = std::chrono::steady_clock;
    uint64_t seen = claim_.load(std::memory_order_acquire);
    int pauses = 0;
    for (auto end = Clock::now() + look_out_; Clock::now() < end;) {
      for (int i = 0; i < kPausesPerLook; ++i) {
        const uint64_t word = claim_.load(std::memory_order_acquire);
        if (unclaimed(word) > 0 || is_stopping_.load(std::memory_order_relaxed)) return true;
        if (word != seen) {
          seen = word;
          pauses = 0;
          end = Clock::now() + look_out_;
        }
        pause();
      }
      pauses += kPausesPerLook;
      if (pauses > kPausesBeforeYield) std::this_thread::yield();
    }
    return false;
  }

  // Either run() sees this sleeper, or this thread sees the op: both write their own word first, then read the other's.
  // The bell is read before that, so a ring in between is not slept through.
  void sleep() {
    const uint32_t rung = bell_.value();
    sleepers_.fetch_add(1);
    if (unclaimed(claim_.load()) > 0 || is_stopping_.load()) return;
    bell_.wait(rung);
  }

  void stop() {
    is_stopping_.store(true);
    bell_.ring();
    for (std::thread& worker : workers_) worker.join();
  }

  const int fork_;
  std::chrono::microseconds look_out_{};
  std::vector<std::thread> workers_;
  std::mutex caller_;

  // on lines of their own: each is written by many threads
  alignas(64) std::atomic<uint64_t> claim_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  alignas(64) std::atomic<Function> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<uint32_t> n_chunks_{0};
  std::atomic<bool> is_stopping_{false};
  alignas(64) std::atomic<int> sleepers_{0};
  Bell bell_;
};

Pool::Pool(int threads) : threads_(threads), team_(nullptr) {
  if (threads < 1 || threads > kMaxThreads)
    throw std::invalid_argument("threads: " + std::to_string(threads) + ", expected 1 to " +
                                std::to_string(kMaxThreads));
  count_forks();
  if (threads > 1) team_.store(new Team(threads, forks.load()));
}

Pool::~Pool() {
  Team* team = team_.load();
  if (team && team->fork() == forks.load()) delete team;  // a parent's team has no threads here that could be joined
}

// The threads of this process. A child of fork() has none of its parent's, and the parent's locks may be held by
// threads that the child lacks: the child leaves that team as it is and starts its own.
Pool::Team& Pool::team() {
  Team* team = team_.load(std::memory_order_acquire);
  const int fork = forks.load(std::memory_order_relaxed);
  if (team->fork() == fork) return *team;
  auto mine = std::make_unique<Team>(threads_, fork);
  if (team_.compare_exchange_strong(team, mine.get())) return *mine.release();
  return *team;  // another thread of the child was first
}

void Pool::run(int64_t n_chunks, Function function, void* context) {
  constexpr int64_t most = UINT32_MAX;
  if (n_chunks > most) throw std::length_error("too many chunks");
  team().run(uint32_t(n_chunks), function, context);
}

}  // namespace apr
