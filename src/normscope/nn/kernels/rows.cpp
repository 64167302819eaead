// Normalization of x (R, C), row-major, with the mean and the divisor each over the rows' axis ("batch": one number a
// column) or the columns' axis ("layer": one number a row), and its gradient. The formulas are those of rows.py, to
// which this is held equal. One thread; sums over rows are taken in blocks, so that rounding grows with the block.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

enum Axes : int64_t { kNone = 0, kBatch = 1, kLayer = 2 };
enum Moment : int64_t { kStd = 0, kRms = 1, kNorm = 2, kL1 = 3 };
constexpr int64_t kBlock = 64;

// Adds to total[c] the sum over rows of term(r, c).
template <typename T, typename Term>
void sum_columns(int64_t R, int64_t C, T* total, Term term) {
  std::vector<T> block(C);
  std::fill(total, total + C, T(0));
  for (int64_t start = 0; start < R; start += kBlock) {
    std::fill(block.begin(), block.end(), T(0));
    T* sum = block.data();
    for (int64_t r = start; r < std::min(R, start + kBlock); ++r) term(r, sum);
    for (int64_t c = 0; c < C; ++c) total[c] += sum[c];
  }
}

template <typename T>
T sum(const T* v, int64_t C) {
  T s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t c = 0; c < C; ++c) s += v[c];
  return s;
}

// The inner loops, over one row; no two of their arguments overlap.
template <typename T>
void add(T* __restrict s, const T* __restrict v, int64_t C) {
  for (int64_t c = 0; c < C; ++c) s[c] += v[c];
}

template <typename T>
void add_product(T* __restrict s, const T* __restrict u, const T* __restrict v, int64_t C) {
  for (int64_t c = 0; c < C; ++c) s[c] += u[c] * v[c];
}

template <typename T>
T dot(const T* __restrict u, const T* __restrict v, int64_t C) {
  T s = 0;
#pragma omp simd reduction(+ : s)
  for (int64_t c = 0; c < C; ++c) s += u[c] * v[c];
  return s;
}

template <typename T>
void add_magnitude(T* __restrict s, const T* __restrict d, int64_t C, int64_t kind) {
  if (kind == kL1) for (int64_t c = 0; c < C; ++c) s[c] += std::abs(d[c]);
  else for (int64_t c = 0; c < C; ++c) s[c] += d[c] * d[c];
}

template <typename T>
void scale(T* __restrict z, T by, T plus, int64_t C) {
  for (int64_t c = 0; c < C; ++c) z[c] = (z[c] + plus) * by;
}

template <typename T>
void multiply(T* __restrict z, const T* __restrict by, int64_t C) {
  for (int64_t c = 0; c < C; ++c) z[c] *= by[c];
}

template <typename T>
void affine(T* __restrict out, const T* __restrict z, const T* __restrict w, const T* __restrict b, int64_t C) {
  if (w != nullptr && b != nullptr) for (int64_t c = 0; c < C; ++c) out[c] = z[c] * w[c] + b[c];
  else if (w != nullptr) for (int64_t c = 0; c < C; ++c) out[c] = z[c] * w[c];
  else if (b != nullptr) for (int64_t c = 0; c < C; ++c) out[c] = z[c] + b[c];
  else std::copy(z, z + C, out);
}

// out = rstd (h - u along), along and rstd of the row or of the columns
template <typename T>
void gradient(T* __restrict out, const T* __restrict h, const T* __restrict u, const T* __restrict along,
              const T* __restrict rstd, int64_t C) {
  for (int64_t c = 0; c < C; ++c) out[c] = rstd[c] * (h[c] - u[c] * along[c]);
}

template <typename T>
void gradient(T* __restrict out, const T* __restrict h, const T* __restrict u, T along, T rstd, int64_t C) {
  for (int64_t c = 0; c < C; ++c) out[c] = rstd * (h[c] - u[c] * along);
}

template <typename T>
T reciprocal(T moment, T eps, int64_t kind) {
  return kind == kL1 ? T(1) / (moment + eps) : T(1) / std::sqrt(moment + eps);
}

// d = x - mean - own of one row; mean and own are of the row or of the columns, or absent.
template <typename T>
void centered(const T* __restrict x, const T* __restrict mean, int64_t over_mean, const T* __restrict own,
              int64_t over_own, int64_t r, int64_t C, T* __restrict d) {
  if (over_mean == kBatch) {
    for (int64_t c = 0; c < C; ++c) d[c] = x[c] - mean[c];
  } else {
    const T m = over_mean == kLayer ? mean[r] : T(0);
    for (int64_t c = 0; c < C; ++c) d[c] = x[c] - m;
  }
  if (own == nullptr) return;
  if (over_own == kBatch) {
    for (int64_t c = 0; c < C; ++c) d[c] -= own[c];
  } else {
    for (int64_t c = 0; c < C; ++c) d[c] -= own[r];
  }
}

template <typename T>
T magnitude(const T* d, int64_t C, int64_t kind) {
  T s = 0;
  if (kind == kL1) {
#pragma omp simd reduction(+ : s)
    for (int64_t c = 0; c < C; ++c) s += std::abs(d[c]);
  } else {
#pragma omp simd reduction(+ : s)
    for (int64_t c = 0; c < C; ++c) s += d[c] * d[c];
  }
  return s;
}

template <typename T>
void forward(const T* x, const T* w, const T* b, int64_t R, int64_t C, int64_t examples, int64_t over_mean,
             int64_t over_scale, int64_t kind, T eps, T* y, T* mean, T* own, T* moment, T* rstd, T* neurons) {
  const int64_t tokens = R / examples;
  std::vector<T> buffer(C);
  T* d = buffer.data();
  if (over_mean == kBatch) {
    sum_columns<T>(R, C, mean, [&](int64_t r, T* s) { add(s, x + r * C, C); });
    for (int64_t c = 0; c < C; ++c) mean[c] /= R;
  }
  if (over_mean == kLayer) for (int64_t r = 0; r < R; ++r) mean[r] = sum(x + r * C, C) / C;
  if (over_scale == kBatch) {
    if (own != nullptr) {
      sum_columns<T>(R, C, own, [&](int64_t r, T* s) {
        centered<T>(x + r * C, mean, over_mean, nullptr, 0, r, C, d);
        add(s, d, C);
      });
      for (int64_t c = 0; c < C; ++c) own[c] /= R;
    }
    sum_columns<T>(R, C, moment, [&](int64_t r, T* s) {
      centered(x + r * C, mean, over_mean, own, over_scale, r, C, d);
      add_magnitude(s, d, C, kind);
    });
    for (int64_t c = 0; c < C; ++c) {
      if (kind != kNorm) moment[c] /= R;
      rstd[c] = reciprocal(moment[c], eps, kind);
    }
  }
  if (neurons != nullptr) std::fill(neurons, neurons + tokens * C, T(0));
  for (int64_t r = 0; r < R; ++r) {
    centered<T>(x + r * C, mean, over_mean, nullptr, 0, r, C, d);
    if (over_scale == kLayer) {
      T shift = 0;
      if (own != nullptr) {
        shift = own[r] = sum(d, C) / C;
        scale(d, T(1), -shift, C);
      }
      moment[r] = magnitude(d, C, kind);
      if (kind != kNorm) moment[r] /= C;
      rstd[r] = reciprocal(moment[r], eps, kind);
      scale(d, rstd[r], shift, C);
    } else {
      multiply(d, rstd, C);
    }
    if (neurons != nullptr) add(neurons + (r % tokens) * C, d, C);
    affine(y + r * C, d, w, b, C);
  }
  if (neurons != nullptr) scale(neurons, T(1) / examples, T(0), tokens * C);
}

template <typename T>
void backward(const T* g, const T* x, const T* w, const T* mean, const T* own, const T* rstd, const T* pull, int64_t R,
              int64_t C, int64_t examples, int64_t over_mean, int64_t over_scale, int64_t kind, T* dx, T* dw, T* db) {
  const int64_t tokens = R / examples;
  const T n = kind == kNorm ? T(1) : T(over_scale == kBatch ? R : C);
  std::vector<T> z_(C), h_(C), along_(C), minus_mean(C);
  T *z = z_.data(), *h = h_.data(), *along = along_.data();
  const auto standardized = [=](int64_t r) {  // z of one row
    centered<T>(x + r * C, mean, over_mean, nullptr, 0, r, C, z);
    if (over_scale == kBatch) multiply(z, rstd, C);
    else scale(z, rstd[r], T(0), C);
  };
  const auto of_z = [=](int64_t r) {  // the gradient of one row of z
    affine(h, g + r * C, w, static_cast<const T*>(nullptr), C);
    if (pull != nullptr) add(h, pull + (r % tokens) * C, C);
  };
  const auto of_affine = [=](int64_t r, T* sums) {
    add_product(sums, g + r * C, z, C);
    add(sums + C, g + r * C, C);
  };
  std::vector<T> sums(3 * C);
  if (over_scale == kBatch) {
    sum_columns<T>(R, 3 * C, sums.data(), [&](int64_t r, T* s) {
      standardized(r);
      of_z(r);
      of_affine(r, s);
      add_product(s + 2 * C, h, z, C);
    });
    for (int64_t c = 0; c < C; ++c) along[c] = sums[2 * C + c] / n;
  }
  const auto write = [=](int64_t r) {
    T* out = dx + r * C;
    const T along_row = over_scale == kLayer ? dot(h, z, C) / n : T(0);
    if (kind == kL1) for (int64_t c = 0; c < C; ++c) z[c] = T((z[c] > 0) - (z[c] < 0));
    if (over_scale == kBatch) {
      if (own != nullptr) for (int64_t c = 0; c < C; ++c) z[c] -= own[c] * rstd[c];
      gradient(out, h, z, along, rstd, C);
    } else {
      if (own != nullptr) scale(z, T(1), -own[r] * rstd[r], C);
      gradient(out, h, z, along_row, rstd[r], C);
    }
    if (over_mean == kLayer) scale(out, T(1), -sum(out, C) / C, C);
  };
  std::vector<T> total(3 * C);
  sum_columns<T>(R, 3 * C, total.data(), [&](int64_t r, T* s) {
    standardized(r);
    of_z(r);
    if (over_scale == kLayer) of_affine(r, s);
    write(r);
    if (over_mean == kBatch) add(s + 2 * C, dx + r * C, C);
  });
  const T* of_weight = over_scale == kLayer ? total.data() : sums.data();
  if (dw != nullptr) std::copy(of_weight, of_weight + C, dw);
  if (db != nullptr) std::copy(of_weight + C, of_weight + 2 * C, db);
  if (over_mean != kBatch) return;
  for (int64_t c = 0; c < C; ++c) minus_mean[c] = -total[2 * C + c] / R;
  for (int64_t r = 0; r < R; ++r) add(dx + r * C, minus_mean.data(), C);
}

// tanh(x) = -e / (2 + e), e = exp(-2 |x|) - 1, to 3 units in the last place; std::tanh is not vectorized. With
// -2 |x| = k log 2 + f, k whole: e = 2^k (exp(f) - 1) + (2^k - 1), the first factor by its series, |f| < 0.35.
float tanh_of(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, in the last bits of the sum
  const float magnitude = std::abs(x);
  const float u = -2.0f * (magnitude > 15.0f ? 15.0f : magnitude);  // NaN stays
  const float shifted = u * 1.44269504f + kShift;
  const float k = shifted - kShift;
  const float f = (u - k * 0.693359375f) + k * 2.12194440e-4f;  // log 2 in two parts, the first exact times k
  float series = 1.0f / 5040;
  series = series * f + 1.0f / 720;
  series = series * f + 1.0f / 120;
  series = series * f + 1.0f / 24;
  series = series * f + 1.0f / 6;
  series = series * f + 0.5f;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = static_cast<int32_t>((static_cast<uint32_t>(bits) + 127u) << 23);
  float power;
  std::memcpy(&power, &bits, sizeof power);
  const float e = power * (f + f * f * series) + (power - 1.0f);
  return std::copysign(e / (2.0f + e), x);
}

}  // namespace

extern "C" void tanh_float32(const float* x, int64_t n, float alpha, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = tanh_of(alpha * x[i]);
}

#define NORMSCOPE_EXPORT(T, name)                                                                                     \
  extern "C" void forward_##name(const T* x, const T* w, const T* b, int64_t R, int64_t C, int64_t examples,          \
                                 int64_t over_mean, int64_t over_scale, int64_t kind, double eps, T* y, T* mean,      \
                                 T* own, T* moment, T* rstd, T* neurons) {                                            \
    forward<T>(x, w, b, R, C, examples, over_mean, over_scale, kind, T(eps), y, mean, own, moment, rstd, neurons);    \
  }                                                                                                                   \
  extern "C" void backward_##name(const T* g, const T* x, const T* w, const T* mean, const T* own, const T* rstd,     \
                                  const T* pull, int64_t R, int64_t C, int64_t examples, int64_t over_mean,           \
                                  int64_t over_scale, int64_t kind, T* dx, T* dw, T* db) {                            \
    backward<T>(g, x, w, mean, own, rstd, pull, R, C, examples, over_mean, over_scale, kind, dx, dw, db);             \
  }

NORMSCOPE_EXPORT(float, float32)
NORMSCOPE_EXPORT(double, float64)
