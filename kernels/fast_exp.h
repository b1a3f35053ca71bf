#pragma once

#include <cstdint>
#include <cstring>

namespace winnow {

// e^x to about 2 ulp for x in [−87, 88], clamped outside; branch-free, so that loops over it
// vectorise. Splits x = n·ln2 + r, |r| ≤ ln2/2, with a degree-6 polynomial for e^r (Cephes'
// coefficients) and 2^n through the exponent bits. NaN gives NaN.
inline float FastExp(float x) {
  float clamped = x < -87.0f ? -87.0f : x;
  clamped = clamped > 88.0f ? 88.0f : clamped;
  const float scaled = clamped * 1.44269504f;
  const float n = (scaled + 12582912.0f) - 12582912.0f;  // rounds to an integer: 1.5·2^23
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return y * power;
}

}  // namespace winnow
