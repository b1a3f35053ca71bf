# Sourced by the scripts: what they say while they work.

# say TEXT: one line of progress with the seconds since the script started.
say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }

# die TEXT: ends the script with a sentence on stderr.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}
