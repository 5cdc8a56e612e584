// A plan works for one thread at a time; a second one is told so instead of being made to wait.
#pragma once

#include <stdexcept>

#include "plan.h"

namespace apr {

class Plan::Busy {
 public:
  explicit Busy(std::atomic<bool>& flag) : flag_(flag) {
    if (flag_.exchange(true)) throw std::runtime_error("the plan is at work in another thread");
  }
  ~Busy() { flag_.store(false); }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  std::atomic<bool>& flag_;
};

}  // namespace apr
