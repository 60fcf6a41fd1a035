//! Do servers that others wrote work? Those that `.ci/mcp-servers` installs where a network is there.
