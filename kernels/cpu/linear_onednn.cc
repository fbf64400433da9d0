#include <omp.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <tuple>
#include <dnnl.hpp>

#include "kernels/base/check.h"
#include "kernels/cpu/linear.h"

namespace lorc {
namespace {

using dnnl::memory;

// Row counts that products are made for; a task is padded to the next one. 48 keeps decode batches
// a little over 32 from paying for 64.
constexpr std::array<int64_t, 9> kRowSizes = {1, 2, 4, 8, 16, 32, 48, 64, kMaxTaskRows};

const dnnl::engine& Engine() {
  static const dnnl::engine* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

memory::data_type TypeOf(DType type) {
  return type == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
}

struct Key {
  DType type;
  int64_t rows, columns, outputs;
  auto Tie() const { return std::tie(type, rows, columns, outputs); }
  bool operator<(const Key& other) const { return Tie() < other.Tie(); }
};

struct Product {
  dnnl::matmul primitive;
  memory::desc x, weight, y;
  int64_t scratch_bytes = 0;
  std::string implementation;
};

Product MakeProduct(const Key& key) {
  const auto plain = memory::format_tag::ab;
  const memory::desc x({key.rows, key.columns}, TypeOf(key.type), plain);
  const memory::desc weight(
      {key.columns, key.outputs}, TypeOf(key.type),
      key.type == DType::kF32 ? memory::format_tag::BA16a64b : memory::format_tag::BA16a64b2a);
  const memory::desc y({key.rows, key.outputs}, memory::data_type::f32, plain);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, weight, y), attributes,
                                                 Engine());
  return {dnnl::matmul(description),
          x,
          weight,
          y,
          static_cast<int64_t>(description.scratchpad_desc().get_size()),
          description.impl_info_str()};
}

// Products are made once and kept: their keys are bounded by the model's shapes and the row sizes.
const Product& GetProduct(const Key& key) {
  static auto* mutex = new std::shared_mutex;
  static auto* products = new std::map<Key, Product>;
  {
    std::shared_lock lock(*mutex);
    const auto found = products->find(key);
    if (found != products->end()) return found->second;
  }
  std::unique_lock lock(*mutex);
  const auto found = products->find(key);
  if (found != products->end()) return found->second;
  return products->emplace(key, MakeProduct(key)).first->second;
}

// The smallest row size that holds the rows and runs the kernel that full tasks run: oneDNN leaves
// AMX for very small products, and another kernel adds in another order.
const Product& ProductFor(Key key) {
  const int64_t rows = key.rows;
  key.rows = kMaxTaskRows;
  const Product& full = GetProduct(key);
  for (const int64_t size : kRowSizes) {
    if (size < rows || size == kMaxTaskRows) continue;
    key.rows = size;
    const Product& product = GetProduct(key);
    if (product.implementation == full.implementation) return product;
  }
  return full;
}

// oneDNN must not start threads of its own inside ours. The setting belongs to the calling thread.
void UseOneOpenMpThread() {
  thread_local const bool done = [] {
    omp_set_num_threads(1);
    return true;
  }();
  static_cast<void>(done);
}

bool ProbeBlockedProducts(DType type) {
  UseOneOpenMpThread();
  try {
    const Product& product = GetProduct({type, kMaxTaskRows, 64, 64});
    return product.implementation.starts_with("brg:");
  } catch (const dnnl::error&) {
    return false;
  }
}

}  // namespace

bool OneDnnHasBlockedProducts(DType type) {
  static const bool f32 = ProbeBlockedProducts(DType::kF32);
  static const bool bf16 = ProbeBlockedProducts(DType::kBf16);
  return type == DType::kF32 ? f32 : type == DType::kBf16 && bf16;
}

void OneDnnLinearTask(const LinearTask& task, std::vector<std::byte>& scratch) {
  UseOneOpenMpThread();
  try {
    const Product& product =
        ProductFor({task.weight->type(), task.num_rows, task.weight->columns(), task.width()});
    if (static_cast<int64_t>(scratch.size()) < product.scratch_bytes + 64) {
      scratch.resize(product.scratch_bytes + 64);
    }
    auto* pad =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
    thread_local dnnl::stream stream(Engine());
    const memory x(product.x, Engine(), const_cast<void*>(task.x));
    const memory weight(product.weight, Engine(),
                        const_cast<std::byte*>(task.weight->block(task.block_begin)));
    const memory y(product.y, Engine(), task.tile);
    const memory scratchpad(
        memory::desc({product.scratch_bytes}, memory::data_type::u8, memory::format_tag::a),
        Engine(), pad);
    product.primitive.execute(stream, {{DNNL_ARG_SRC, x},
                                       {DNNL_ARG_WEIGHTS, weight},
                                       {DNNL_ARG_DST, y},
                                       {DNNL_ARG_SCRATCHPAD, scratchpad}});
    stream.wait();
  } catch (const dnnl::error& error) {
    // Shapes and types were checked when the matrix was packed: a refusal is a bug.
    std::fprintf(stderr, "oneDNN: %s\n", error.what());
    LORC_CHECK(false);
  }
}

}  // namespace lorc
