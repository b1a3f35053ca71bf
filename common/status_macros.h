#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr` (an absl::Status) is not OK.
#define WINNOW_RETURN_IF_ERROR(expr)                 \
  do {                                               \
    absl::Status winnow_status_ = (expr);            \
    if (!winnow_status_.ok()) return winnow_status_; \
  } while (false)

// WINNOW_ASSIGN_OR_RETURN(auto x, F()): x gets the value of F(), or the enclosing function returns
// F's status.
#define WINNOW_ASSIGN_OR_RETURN(lhs, expr) \
  WINNOW_ASSIGN_OR_RETURN_(WINNOW_CONCAT_(winnow_statusor_, __LINE__), lhs, expr)
#define WINNOW_ASSIGN_OR_RETURN_(tmp, lhs, expr) \
  auto tmp = (expr);                             \
  if (!tmp.ok()) return tmp.status();            \
  lhs = std::move(tmp).value()
#define WINNOW_CONCAT_(a, b) WINNOW_CONCAT2_(a, b)
#define WINNOW_CONCAT2_(a, b) a##b
