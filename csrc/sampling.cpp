// Sampling by the rules of engines/_sampling.py, which sorts the vocabulary and takes its exponentials in float64.
//
// Here most rows are decided without: sums come from the table's float32 exponentials, whose error is bounded by
// kMargin, and a decision that such an error could turn is taken again in float64 as the definition takes it.
// What may still differ from the definition is decided by the last bits of a float64 sum (whether a cumulative
// probability equals 1 - top_p, or the drawn number), since the order of its terms and the last bit of its
// exponentials differ; and by the last bits of float32 exponentials for a token exactly at the limit of min_p.
#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

namespace apr {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLowest = std::numeric_limits<float>::lowest();

// Bounds the relative error of `sum_exp` over logits: 2^-22 of an exponential, 2^-21 for the rounding of its argument
// as far down as 16 below the largest (what is further down hardly counts), and 2^-20 in the sums in float32.
constexpr double kMargin = 2e-6;

using Indices = std::vector<int32_t>;

// Values that somebody else holds.
struct View {
  const float* data;
  size_t n;

  View(const float* data, size_t n) : data(data), n(n) {}
  View(const std::vector<float>& x) : data(x.data()), n(x.size()) {}
  size_t size() const { return n; }
  float operator[](size_t i) const { return data[i]; }
};

// The values that are left, and the ids they belong to; no ids while all are left.
struct Kept {
  std::vector<float> values;
  Indices ids;

  int64_t size() const { return int64_t(values.size()); }
  int64_t id(int64_t i) const { return ids.empty() ? i : ids[i]; }
  // Only these remain, given in ascending order.
  void keep(const Indices& indices) {
    Kept next;
    next.values.reserve(indices.size());
    next.ids.reserve(indices.size());
    for (const int32_t i : indices) {
      next.values.push_back(values[i]);
      next.ids.push_back(int32_t(id(i)));
    }
    *this = std::move(next);
  }
};

double weight(float x, float max) { return std::exp(double(x) - double(max)); }

// Calls f(i) for every value from `least` to `most`. f may raise `least`, which counts from one of the next values on.
// Most runs have none and need one look; in the others a branch for each value would be a guess.
template <class Function>
void each_within(const View& x, const float& least, float most, Function f) {
  constexpr size_t kRun = 64;
  for (size_t begin = 0; begin < x.size(); begin += kRun) {
    const size_t end = std::min(x.size(), begin + kRun);
    const float from = least;
    int some = 0;
    for (size_t i = begin; i < end; ++i) some |= x[i] >= from;
    if (!some) continue;
    int32_t found[kRun];
    int n = 0;
    for (size_t i = begin; i < end; ++i) {
      found[n] = int32_t(i);
      n += (x[i] >= from) & (x[i] <= most);
    }
    for (int j = 0; j < n; ++j) f(found[j]);
  }
}

// Of the values that are not NaN; -infinity if there are fewer than k.
float kth_largest(const View& x, int64_t k) {
  std::vector<float> best;  // the k largest so far are among these, all at least `least`
  float least = -kInfinity;
  const auto shrink = [&] {
    std::nth_element(best.begin(), best.begin() + (k - 1), best.end(), std::greater<float>());
    best.resize(size_t(k));
    least = best.back();
  };
  each_within(x, least, kInfinity, [&](int32_t i) {
    best.push_back(x[i]);
    if (int64_t(best.size()) == 2 * k) shrink();
  });
  if (int64_t(best.size()) >= k) shrink();
  return least;
}

Indices at_least(const View& x, float limit) {
  Indices indices;
  each_within(x, limit, kInfinity, [&](int32_t i) { indices.push_back(i); });
  return indices;
}

struct Candidate {
  double weight;
  float value;
  int32_t index;

  // The order from behind of a stable sort: the most likely first, among equals the later one.
  bool operator<(const Candidate& other) const {
    return value != other.value ? value > other.value : index > other.index;
  }
};

// The most likely values, band by band from the top; bands are in order, values within one are not.
struct Candidates {
  std::vector<Candidate> list;
  double total = 0;         // of the weights
  float limit = kInfinity;  // all values at least this are here
  size_t last_band = 0;     // where the last band begins
  double above = 0;         // the total of all bands before it

  bool is_all() const { return limit == kLowest; }
  void extend(const std::vector<float>& x, float max, float new_limit) {
    last_band = list.size(), above = total;
    each_within(x, new_limit, std::nextafter(limit, kLowest), [&](int32_t i) {
      list.push_back({weight(x[i], max), x[i], i});
      total += list.back().weight;
    });
    limit = new_limit;
  }
};

// How many of the candidates stay, by sums in float64: those whose cumulative probability, counted from the least
// likely value of all, is above 1 - top_p. Sorts the candidates.
size_t exact_cut(Candidates& candidates, const std::vector<float>& x, float max, double top_p) {
  std::vector<Candidate>& list = candidates.list;
  std::sort(list.begin(), list.end());
  double rest = 0;
  for (const float value : x)
    if (value < candidates.limit) rest += weight(value, max);
  double total = rest;
  for (size_t i = list.size(); i-- > 0;) total += list[i].weight;
  double cumulative = rest / total;
  for (size_t i = list.size(); i-- > 1;) {
    cumulative += list[i].weight / total;
    if (!(cumulative <= 1.0 - top_p)) return i + 1;
  }
  return 1;  // the most likely one always stays
}

// A value goes if those above it have top_p of the total without it. Where that is not sure: exact_cut.
Indices nucleus(const Kernels& kernels, const std::vector<float>& x, float max, double top_p) {
  const double total = kernels.sum_exp(x.data(), max, int64_t(x.size()));
  const double limit = top_p * total, margin = kMargin * total;
  Candidates candidates;
  for (float depth = 2; !candidates.is_all() && candidates.total <= limit + margin; ++depth)
    candidates.extend(x, max, depth < 30 ? max - depth : kLowest);

  std::vector<Candidate>& list = candidates.list;
  std::sort(list.begin() + candidates.last_band, list.end());
  size_t n = candidates.last_band;
  double above = candidates.above;
  while (n < list.size() && (n == 0 || above < limit - margin)) above += list[n++].weight;
  if (n < list.size() && above <= limit + margin) n = exact_cut(candidates, x, max, top_p);
  if (n == 0) return {};
  const Candidate last = list[n - 1];
  Indices indices;  // in order, which those of the candidates are not
  each_within(x, last.value, kInfinity, [&](int32_t i) {
    if (x[i] > last.value || i >= last.index) indices.push_back(i);
  });
  return indices;
}

// In float32, as the definition: a token stays if its probability is at least min_p times the largest.
Indices likely(const Kernels& kernels, const std::vector<float>& x, float max, double min_p) {
  const float total = float(kernels.sum_exp(x.data(), max, int64_t(x.size())));
  const float limit = float(min_p) * (1.0f / total);
  const float surely_below = float(std::log(min_p)) - 0.01f;
  Indices indices;
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] - max >= surely_below && !(std::exp(x[i] - max) / total < limit)) indices.push_back(int32_t(i));
  return indices;
}

// By cumulative probabilities in float64, in the order of the ids.
int64_t exact_draw(const std::vector<float>& x, float max, double uniform) {
  std::vector<double> cumulative(x.size());
  double total = 0, sum = 0;
  for (size_t i = 0; i < x.size(); ++i) total += cumulative[i] = weight(x[i], max);
  for (double& c : cumulative) c = sum += c / total;
  const double drawn = uniform * sum;
  int64_t last = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == -kInfinity) continue;
    last = int64_t(i);
    if (cumulative[i] > drawn) break;
  }
  return last;
}

// By sums over runs of ids, then over the ids of one run; -1 if the drawn number is too close to a token's border.
int64_t quick_draw(const Kernels& kernels, const std::vector<float>& x, float max, double uniform) {
  constexpr int64_t kRun = 512;
  const int64_t n = int64_t(x.size());
  std::vector<double> sums;
  double total = 0;
  for (int64_t i = 0; i < n; i += kRun) {
    sums.push_back(kernels.sum_exp(x.data() + i, max, std::min(kRun, n - i)));
    total += sums.back();
  }
  const double drawn = uniform * total, margin = kMargin * total;
  double cumulative = 0;
  size_t run = 0;
  while (run + 1 < sums.size() && cumulative + sums[run] <= drawn) cumulative += sums[run++];
  for (int64_t i = int64_t(run) * kRun; i < std::min(n, int64_t(run + 1) * kRun); ++i) {
    const double next = cumulative + weight(x[i], max);
    if (next > drawn) return drawn - cumulative > margin && next - drawn > margin ? i : -1;
    cumulative = next;
  }
  return -1;
}

int64_t draw_one(const Kernels& kernels, const std::vector<float>& x, float max, double uniform) {
  constexpr size_t kFew = 1024;
  const int64_t drawn = x.size() <= kFew ? -1 : quick_draw(kernels, x, max, uniform);
  return drawn >= 0 ? drawn : exact_draw(x, max, uniform);
}

}  // namespace

int64_t sample(const Kernels& kernels, const float* logits, int64_t n, const Draw& draw) {
  Kept kept;
  kept.values.resize(size_t(n));
  for (int64_t i = 0; i < n; ++i) kept.values[i] = logits[i] / draw.temperature;
  const float max = kernels.max(kept.values.data(), n);  // the most likely token always stays
  if (draw.top_k > 0 && draw.top_k < n) kept.keep(at_least(kept.values, kth_largest(kept.values, draw.top_k)));
  if (draw.top_p < 1.0 && kept.size() > 0) kept.keep(nucleus(kernels, kept.values, max, draw.top_p));
  if (draw.min_p > 0.0 && kept.size() > 0) kept.keep(likely(kernels, kept.values, max, draw.min_p));
  return kept.size() > 0 ? kept.id(draw_one(kernels, kept.values, max, draw.uniform)) : 0;
}

Summary summarize(const Kernels& kernels, const float* logits, int64_t n, int64_t k) {
  Summary summary;
  int infinite = 0;  // without a way out of the loop, so that the compiler looks at several at a time
  for (int64_t i = 0; i < n; ++i) infinite |= !(logits[i] - logits[i] == 0.0f);
  summary.is_finite = !infinite;
  const float max = kernels.max(logits, n);
  summary.log_sum = double(max) + std::log(kernels.sum_exp(logits, max, n));

  View values(logits, size_t(n));
  std::vector<float> numbers;
  if (!summary.is_finite) {
    numbers.assign(logits, logits + n);
    std::replace_if(numbers.begin(), numbers.end(), [](float x) { return std::isnan(x); }, -kInfinity);
    values = numbers;
  }
  Indices best = at_least(values, kth_largest(values, k));
  // all above the k-th, and of those equal to it as many as there is room for
  std::partial_sort(best.begin(), best.begin() + k, best.end(),
                    [&](int32_t a, int32_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  summary.top.assign(best.begin(), best.begin() + k);
  return summary;
}

}  // namespace apr
