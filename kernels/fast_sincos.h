#pragma once

#include <cstdint>
#include <cstring>

namespace winnow {

// sin x and cos x to about 1 ulp of a float for |x| < 2^31; branch-free, so that loops over it
// vectorise. Reduces x = k·π/2 + r, |r| ≤ π/4, in double: positions reach 10^5 radians, of which a
// float reduction would keep few digits (error here: |k|·10^−16). Then Cephes' polynomials on r;
// the quadrant k mod 4 swaps the two and sets the signs.
inline void FastSinCos(float x, float* sin_out, float* cos_out) {
  constexpr double kRound =
      6755399441055744.0;  // 1.5·2^52: adding it rounds to an integer, left in the low bits
  const double shifted = x * 0.63661977236758134 + kRound;
  int64_t quadrant;
  std::memcpy(&quadrant, &shifted, 8);
  const double r = x - (shifted - kRound) * 1.5707963267948966;
  const double r2 = r * r;
  const double s = r + r * r2 * (-1.6666654611e-1 + r2 * (8.3321608736e-3 + r2 * -1.9515295891e-4));
  const double c =
      1.0 - 0.5 * r2 +
      r2 * r2 * (4.166664568298827e-2 + r2 * (-1.388731625493765e-3 + r2 * 2.443315711809948e-5));
  const bool swap = (quadrant & 1) != 0;
  const double sin = swap ? c : s;
  const double cos = swap ? s : c;
  *sin_out = static_cast<float>((quadrant & 2) != 0 ? -sin : sin);
  *cos_out = static_cast<float>(((quadrant + 1) & 2) != 0 ? -cos : cos);
}

}  // namespace winnow
