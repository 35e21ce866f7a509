//! Sound in: from any container and codec to 16 kHz mono samples.
