#include "common/log.h"

#include "spdlog/sinks/stdout_color_sinks.h"

namespace winnow {

void InitLog(const std::string& role, const std::string& level) {
  auto logger = spdlog::stderr_color_mt(role);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ [%n] %v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace winnow
