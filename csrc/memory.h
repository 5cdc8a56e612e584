// Memory for weights, caches and buffers: zeroed, aligned to 64 bytes, in huge pages where the system has them.
//
// Each is freed when its last owner goes; an owner may be copied and dropped in any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace apr {

using Memory = std::shared_ptr<uint8_t>;

// Memory of its own. Raises std::bad_alloc.
Memory allocate(size_t n_bytes);

// Memory beside what was allocated before it, for what lives as long as its neighbours: the weights of a model. Most
// weights of a small model are smaller than a huge page (2 MiB), so they get one only if they share it.
Memory allocate_beside(size_t n_bytes);

}  // namespace apr
