#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace winnow {

// Command-line options of the form --name value, --name=value and --flag; names with dashes. -h is
// --help.
class Args {
 public:
  // `values` take a value, `flags` take none. INVALID_ARGUMENT: an option that is neither, or one
  // without its value, or a value that is not UTF-8.
  static absl::StatusOr<Args> Parse(const std::vector<std::string>& words,
                                    const std::vector<std::string>& values,
                                    const std::vector<std::string>& flags);

  bool Has(const std::string& name) const { return values_.count(name) > 0; }
  // The last one given, or `fallback`.
  std::string Get(const std::string& name, const std::string& fallback = "") const;
  std::vector<std::string> GetAll(const std::string& name) const;

  // INVALID_ARGUMENT names the option, what it takes and the text that is not that.

  // "nan" and "inf" are numbers.
  absl::StatusOr<double> GetDouble(const std::string& name) const;
  // Integer is int32_t, int64_t or uint64_t; what it cannot hold is refused.
  template <typename Integer>
  absl::StatusOr<Integer> GetInt(const std::string& name) const;
  absl::StatusOr<std::vector<int32_t>> GetInts(const std::string& name) const;  // 1,2,3
  // Positive seconds.
  absl::StatusOr<absl::Duration> GetSeconds(const std::string& name, absl::Duration fallback) const;

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

}  // namespace winnow
