// Runs the kernels of a .cu file on the CPU: blocks one after the other, and the threads of a block
// as fibers that take turns at each barrier of the block or of a warp. Compiled with -DKERNELS='"…/kernels.cu"'.

#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __grid_constant__

struct Index {
  unsigned x, y, z;
};

static Index threadIdx, blockIdx, blockDim, gridDim;

static ucontext_t scheduler;
static std::vector<ucontext_t> fibers;
static std::vector<bool> finished;
static std::vector<std::unique_ptr<char[]>> stacks;
static std::function<void()> body;
static size_t running;
static const size_t STACK = 64 * 1024;
static const size_t WARP = 32;

enum Barrier : char { NONE, OF_WARP, OF_BLOCK };
static std::vector<Barrier> waiting;

static void wait_at(Barrier barrier) {
  waiting[running] = barrier;
  swapcontext(&fibers[running], &scheduler);
}

static void __syncthreads() { wait_at(OF_BLOCK); }

// Of a whole warp.
static unsigned __ballot_sync(unsigned, bool vote) {
  static bool votes[1024];
  votes[running] = vote;
  wait_at(OF_WARP);
  unsigned bits = 0;
  for (size_t lane = 0; lane < WARP; ++lane) bits |= (unsigned)votes[running / WARP * WARP + lane] << lane;
  wait_at(OF_WARP);
  return bits;
}

// Of a whole warp.
static float __shfl_xor_sync(unsigned, float value, int lanes) {
  static float values[1024];
  values[running] = value;
  wait_at(OF_WARP);
  float other = values[running ^ lanes];
  wait_at(OF_WARP);
  return other;
}

static unsigned bits_of(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

static float float_of(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

static unsigned __float_as_uint(float value) { return bits_of(value); }
static float __uint_as_float(unsigned bits) { return float_of(bits); }
static int __float2int_rn(float value) { return (int)std::nearbyint(value); }
static int __ffsll(long long bits) { return __builtin_ffsll(bits); }
static int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }

template <class Number, class Other>
static Number atomicAdd(Number* at, Other by) {
  Number before = *at;
  *at += by;
  return before;
}

template <class Number, class Other>
static Number atomicAnd(Number* at, Other with) {
  Number before = *at;
  *at &= with;
  return before;
}

template <class Number, class Other>
static Number atomicOr(Number* at, Other with) {
  Number before = *at;
  *at |= with;
  return before;
}

static float from_half(unsigned short bits) {
  _Float16 value;
  std::memcpy(&value, &bits, sizeof value);
  return (float)value;
}

static unsigned short to_half(float number) {
  _Float16 value = (_Float16)number;
  unsigned short bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

#include KERNELS

static Index thread_of(size_t number) {
  return {(unsigned)(number % blockDim.x), (unsigned)(number / blockDim.x % blockDim.y),
          (unsigned)(number / blockDim.x / blockDim.y)};
}

static void fiber() {
  body();
  finished[running] = true;
}

static void start_fibers(size_t threads) {
  fibers.assign(threads, ucontext_t());
  finished.assign(threads, false);
  waiting.assign(threads, NONE);
  while (stacks.size() < threads) stacks.emplace_back(new char[STACK]);
  for (size_t number = 0; number < threads; ++number) {
    getcontext(&fibers[number]);
    fibers[number].uc_stack.ss_sp = stacks[number].get();
    fibers[number].uc_stack.ss_size = STACK;
    fibers[number].uc_link = &scheduler;
    makecontext(&fibers[number], fiber, 0);
  }
}

// Whether all threads of a part that are still there wait at a barrier; then they go on.
static bool pass(Barrier barrier, size_t begin, size_t end) {
  size_t there = 0;
  for (size_t number = begin; number < end; ++number) {
    if (!finished[number] && waiting[number] != barrier) return false;
    there += !finished[number];
  }
  for (size_t number = begin; number < end; ++number) waiting[number] = NONE;
  return there > 0;
}

static bool pass_barriers(size_t threads) {
  if (pass(OF_BLOCK, 0, threads)) return true;
  bool passed = false;
  for (size_t begin = 0; begin < threads; begin += WARP)
    passed |= pass(OF_WARP, begin, begin + WARP < threads ? begin + WARP : threads);
  return passed;
}

// Let each thread run to its next barrier, in rising or falling order, until all are done. Returns whether they got
// there: threads that wait where others do not come would do so for ever.
static bool run_block(bool falling) {
  size_t threads = (size_t)blockDim.x * blockDim.y * blockDim.z;
  start_fibers(threads);
  for (size_t left = threads; left > 0;) {
    for (size_t turn = 0; turn < threads; ++turn) {
      running = falling ? threads - 1 - turn : turn;
      if (finished[running] || waiting[running]) continue;
      threadIdx = thread_of(running);
      swapcontext(&scheduler, &fibers[running]);
      if (finished[running]) --left;
    }
    if (left > 0 && !pass_barriers(threads)) return false;
  }
  return true;
}

static void run_threads() {
  for (size_t number = 0; number < (size_t)blockDim.x * blockDim.y * blockDim.z; ++number) {
    threadIdx = thread_of(number);
    body();
  }
}

template <class... Parameters, size_t... Places>
static void prepare(void (*kernel)(Parameters...), void** arguments, std::index_sequence<Places...>) {
  body = [=] { kernel(*(std::remove_const_t<Parameters>*)arguments[Places]...); };
}

template <class... Parameters>
static void prepare(void (*kernel)(Parameters...), void** arguments) {
  prepare(kernel, arguments, std::index_sequence_for<Parameters...>());
}

// Run a kernel by name as cuLaunchKernel does; KERNEL_NAMES is a list of RUN(name). Returns what is wrong, or nothing.
extern "C" const char* run_kernel(const char* name, const unsigned* grid, const unsigned* block, void** arguments,
                                  bool falling, bool has_barriers) {
  static std::mutex one_at_a_time;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  body = nullptr;
#define RUN(kernel) \
  if (!std::strcmp(name, #kernel)) prepare(kernel, arguments);
  KERNEL_NAMES
  if (!body) return "there is no kernel of this name";
  blockDim = {block[0], block[1], block[2]};
  gridDim = {grid[0], grid[1], grid[2]};
  for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
        if (!has_barriers)
          run_threads();
        else if (!run_block(falling))
          return "some threads wait at a barrier that others do not come to";
  return nullptr;
}
