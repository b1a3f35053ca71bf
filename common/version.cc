#include "common/version.h"

namespace winnow {

const char* Version() { return WINNOW_VERSION; }
const char* BuiltForDevices() { return WINNOW_DEVICES; }

}  // namespace winnow
