// Letterbox, decoding and non-maximum suppression of SCRFD on the GPU.
//
// The functions of _letterbox.py, _decode.py and _nms.py are the reference; these give the same numbers. The file needs
// no header, so that NVRTC alone compiles it; a host compiler does too, in tests/cuda/emulated.cpp.

typedef unsigned char Byte;
typedef unsigned long long Address;

#define BGR 0
#define RGB 1
#define NV12 2
#define P010 3

#define CANDIDATES 4096  // maximum rows above the threshold per image
#define QUAD 4           // adjacent pixels per thread of the letterbox
#define CHUNK 64         // candidates per round of NMS; the bits of an Address
#define FEW 256          // up to so many candidates are sorted by counting
#define LEVELS 40        // strides of all passes
#define ROW 16           // floats per face: box, score, landmarks, and its row number
#define HEADER 16        // floats before the first face

// One image. The fits of all passes follow it.
struct Frame {
  Address address, chroma;    // of the first pixel, and of the first U of two planes
  long long row, chroma_row;  // bytes between rows; the next four: between columns, and between channels
  int column, channel, chroma_column, chroma_channel;
  int width, height;
  int format;
  int black, luma, red_v, green_u, green_v, blue_u;  // from YUV to RGB, with 20 fractional bits
  unsigned padded;  // bit p: the input of pass p already holds the padding; bits of a view, which has one pass, follow
};

// Bits of a view, a window that may be turned.
#define ODD_COLUMN 1  // its first column is the second one of a U and V
#define ODD_ROW 2
#define MIRRORED_X 3  // its columns count backwards in the image
#define MIRRORED_Y 4
#define TRANSPOSED 5  // its rows are columns of the image

// Placement of an image in the input of one pass.
struct Fit {
  double step_x, step_y;  // source pixels per input pixel
  int across, down;       // size of the scaled image
  float back_x, back_y;   // the steps as float, to map boxes back
};

// One run; the frames follow it.
struct Batch {
  Address result;
  float threshold, iou;
  int limit;  // maximum faces per image
  int room;   // faces for which the result of an image has room
};

// The outputs of one stride in one pass.
struct Level {
  Address score, box, points;
  int stride, across, rows, first, pass;
  int half;  // bit 0 score, 1 box, 2 points: elements are float16
};

struct Heads {
  int levels, anchors, grid, points;
  Level level[LEVELS];
};

struct alignas(16) Box {
  float x1, y1, x2, y2;
};

struct Color {
  int red, green, blue;
};

#ifdef __CUDACC__
__device__ inline float from_half(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ inline unsigned short to_half(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#endif

__device__ inline const Frame& frame_of(const Batch* batch, int size, int image) {
  return *(const Frame*)((const char*)(batch + 1) + (long long)image * size);
}

__device__ inline const Fit& fit_of(const Frame& frame, int pass) { return ((const Fit*)(&frame + 1))[pass]; }

__device__ inline int clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

// A level of 8 bits, or one of 10 in the high bits of two bytes.
template <bool wide>
__device__ inline int level_at(Address address) {
  return wide ? *(const unsigned short*)address >> 6 : *(const Byte*)address;
}

__device__ inline int flag(const Frame& frame, int bit) { return frame.padded >> bit & 1; }

template <bool view, bool wide>
__device__ inline Color from_yuv(const Frame& frame, int x, int y) {
  const int zero = wide ? 512 : 128;
  int u_x = (view ? x + flag(frame, ODD_COLUMN) : x) / 2, u_y = (view ? y + flag(frame, ODD_ROW) : y) / 2;
  Address chroma = frame.chroma + u_y * frame.chroma_row + (long long)u_x * frame.chroma_column;
  int above = level_at<wide>(frame.address + y * frame.row + (long long)x * frame.column) - frame.black;
  int light = (above > 0 ? above : 0) * frame.luma + (1 << 19);
  int u = level_at<wide>(chroma) - zero, v = level_at<wide>(chroma + frame.chroma_channel) - zero;
  return {clamp((light + frame.red_v * v) >> 20, 0, 255),
          clamp((light + frame.green_v * v + frame.green_u * u) >> 20, 0, 255),
          clamp((light + frame.blue_u * u) >> 20, 0, 255)};
}

template <bool view>
__device__ inline Color pixel(const Frame& frame, int x, int y) {
  if (frame.format == NV12) return from_yuv<view, false>(frame, x, y);
  if (frame.format == P010) return from_yuv<view, true>(frame, x, y);
  const Byte* at = (const Byte*)frame.address + y * frame.row + (long long)x * frame.column;
  int first = at[0], second = at[frame.channel], third = at[2ll * frame.channel];
  return frame.format == RGB ? Color{first, second, third} : Color{third, second, first};
}

// Source of a scaled pixel on one axis: two neighbours, and their 11-bit weights.
struct Tap {
  int near, far;
  int near_weight, far_weight;
};

// Identical to OpenCV with INTER_LINEAR. At the border along x, the pixel itself has full weight; along y, the row past the
// border repeats the last row.
__device__ inline Tap tap(int index, double step, int size, bool along_x) {
  float place = (float)((index + 0.5) * step - 0.5);
  int near = (int)floorf(place);
  float share = place - near;
  if (along_x && near < 0) near = 0, share = 0;
  if (along_x && near >= size - 1) near = size - 1, share = 0;
  return {clamp(near, 0, size - 1), clamp(near + 1, 0, size - 1), __float2int_rn((1.0f - share) * 2048.0f),
          __float2int_rn(share * 2048.0f)};
}

__device__ inline int blend(int a, int b, int c, int d, const Tap& x, const Tap& y) {
  int above = a * x.near_weight + b * x.far_weight, below = c * x.near_weight + d * x.far_weight;
  return (((y.near_weight * (above >> 4)) >> 16) + ((y.far_weight * (below >> 4)) >> 16) + 2) >> 2;
}

// Tap of a view on one axis: the host scales a window before it turns it.
__device__ inline Tap tap(int index, double step, int size, int scaled, bool along_x, bool mirrored) {
  if (!mirrored) return tap(index, step, size, along_x);
  Tap found = tap(scaled - 1 - index, step, size, along_x);
  return {size - 1 - found.near, size - 1 - found.far, found.near_weight, found.far_weight};
}

template <bool view>
__device__ inline Color scaled(const Frame& frame, const Fit& fit, int x, int y) {
  if (fit.across == frame.width && fit.down == frame.height) return pixel<view>(frame, x, y);
  bool turned = view && flag(frame, TRANSPOSED);
  Tap h = tap(x, fit.step_x, frame.width, fit.across, !turned, view && flag(frame, MIRRORED_X));
  Tap v = tap(y, fit.step_y, frame.height, fit.down, turned, view && flag(frame, MIRRORED_Y));
  Color a = pixel<view>(frame, h.near, v.near), b = pixel<view>(frame, h.far, v.near);
  Color c = pixel<view>(frame, h.near, v.far), d = pixel<view>(frame, h.far, v.far);
  if (turned)
    return {blend(a.red, c.red, b.red, d.red, v, h), blend(a.green, c.green, b.green, d.green, v, h),
            blend(a.blue, c.blue, b.blue, d.blue, v, h)};
  return {blend(a.red, b.red, c.red, d.red, h, v), blend(a.green, b.green, c.green, d.green, h, v),
          blend(a.blue, b.blue, c.blue, d.blue, h, v)};
}

// Adjacent elements of one plane, stored together.
template <class Element>
struct alignas(QUAD * sizeof(Element)) Quad {
  Element values[QUAD];
};

__device__ inline float normal(int value) { return (value - 127.5f) / 128.0f; }

__device__ inline void put(float* out, int value) { *out = normal(value); }

__device__ inline void put(unsigned short* out, int value) { *out = to_half(normal(value)); }

// Whether an image needs no scaling and four of its pixels are three aligned words.
__device__ inline bool is_plain(const Frame& frame, const Fit& fit) {
  return fit.across == frame.width && fit.down == frame.height && frame.format < NV12 && frame.column == 3 &&
         frame.channel == 1 && (frame.address & 3) == 0 && (frame.row & 3) == 0;
}

__device__ inline void read_plain(const Frame& frame, int x, int y, Color* colors) {
  const unsigned* words = (const unsigned*)(frame.address + y * frame.row + 3ll * x);
  unsigned a = words[0], b = words[1], c = words[2];
  int bytes[3 * QUAD] = {(int)(a & 255),       (int)(a >> 8 & 255), (int)(a >> 16 & 255), (int)(a >> 24),
                         (int)(b & 255),       (int)(b >> 8 & 255), (int)(b >> 16 & 255), (int)(b >> 24),
                         (int)(c & 255),       (int)(c >> 8 & 255), (int)(c >> 16 & 255), (int)(c >> 24)};
#pragma unroll
  for (int k = 0; k < QUAD; ++k) {
    int first = bytes[3 * k], third = bytes[3 * k + 2];
    bool rgb = frame.format == RGB;
    colors[k] = {rgb ? first : third, bytes[3 * k + 1], rgb ? third : first};
  }
}

// Images of any size to (images, 3, height, width): four pixels per thread, one layer of blocks per image.
template <bool view, class Element>
__device__ inline void letterbox(const Batch* batch, int frame_size, Element* input, int width, int height, int pass) {
  int x = (blockIdx.x * blockDim.x + threadIdx.x) * QUAD, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  const Frame& frame = frame_of(batch, frame_size, blockIdx.z);
  const Fit& fit = fit_of(frame, pass);
  bool beyond = x >= fit.across || y >= fit.down;
  if (beyond && frame.padded >> pass & 1) return;
  Color colors[QUAD];
  if (!beyond && x + QUAD <= fit.across && is_plain(frame, fit)) {
    read_plain(frame, x, y, colors);
  } else {
#pragma unroll
    for (int k = 0; k < QUAD; ++k)
      colors[k] = !beyond && x + k < fit.across ? scaled<view>(frame, fit, x + k, y) : Color{0, 0, 0};
  }
  Quad<Element> red, green, blue;
#pragma unroll
  for (int k = 0; k < QUAD; ++k) {
    put(&red.values[k], colors[k].red);
    put(&green.values[k], colors[k].green);
    put(&blue.values[k], colors[k].blue);
  }
  long long plane = (long long)width * height;
  Element* out = input + blockIdx.z * 3 * plane + (long long)y * width + x;
  if (width % QUAD == 0) {
    *(Quad<Element>*)out = red;
    *(Quad<Element>*)(out + plane) = green;
    *(Quad<Element>*)(out + 2 * plane) = blue;
    return;
  }
  for (int k = 0; k < QUAD && x + k < width; ++k) {
    out[k] = red.values[k];
    out[plane + k] = green.values[k];
    out[2 * plane + k] = blue.values[k];
  }
}

#define LETTERBOX(name, view, Element)                                                                                    \
  extern "C" __global__ void name(const Batch* batch, int frame_size, Element* input, int width, int height, int pass) { \
    letterbox<view>(batch, frame_size, input, width, height, pass);                                                       \
  }
LETTERBOX(letterbox_float, false, float)
LETTERBOX(letterbox_half, false, unsigned short)
LETTERBOX(letterbox_views_float, true, float)
LETTERBOX(letterbox_views_half, true, unsigned short)

__device__ inline float element(Address base, long long index, bool half) {
  return half ? from_half(((const unsigned short*)base)[index]) : ((const float*)base)[index];
}

// The cell of a row; a cell has one or two anchors.
__device__ inline int cell_of(const Heads& heads, int row) { return row >> (heads.anchors - 1); }

// Value c of the `width` values of one row, in any layout.
__device__ inline float value_of(const Heads& heads, const Level& level, Address base, bool half, int image, int row,
                                 int c, int width) {
  long long index;
  if (heads.grid) {
    int cells = level.rows / heads.anchors, anchor = row & (heads.anchors - 1);
    index = (((long long)image * heads.anchors + anchor) * width + c) * cells + cell_of(heads, row);
  } else {
    index = ((long long)image * level.rows + row) * width + c;
  }
  return element(base, index, half);
}

// Sort key: descending score, then row number. Scores are positive, so their bits sort like the values.
__device__ inline Address key_of(float score, int place) {
  return (Address)(~__float_as_uint(score)) << 32 | (unsigned)place;
}

__device__ inline float score_of(Address key) { return __uint_as_float(~(unsigned)(key >> 32)); }

__device__ inline float number(float value) { return value; }

__device__ inline float number(unsigned short bits) { return from_half(bits); }

__device__ inline void keep(const Heads& heads, const Level& level, int index, float score, Address* keys, int* count) {
  int cells = level.rows / heads.anchors;
  int row = heads.grid ? index % cells * heads.anchors + index / cells : index;
  int free = atomicAdd(count, 1);
  if (free < CANDIDATES) keys[free] = key_of(score, level.first + row);
}

// Collect the rows of one stride above the threshold; rows beyond CANDIDATES are counted only.
template <class Element>
__device__ inline void scan(const Heads& heads, const Level& level, int image, float threshold, Address* keys,
                            int* count) {
  const Element* scores = (const Element*)level.score + (long long)image * level.rows;
  int quads = level.rows % QUAD ? 0 : level.rows / QUAD;  // rows of every image are aligned to quads
  for (int q = threadIdx.x; q < quads; q += blockDim.x) {
    Quad<Element> four = ((const Quad<Element>*)scores)[q];
#pragma unroll
    for (int k = 0; k < QUAD; ++k) {
      float score = number(four.values[k]);
      if (score >= threshold && score > 0.0f) keep(heads, level, q * QUAD + k, score, keys, count);
    }
  }
  for (int index = quads * QUAD + threadIdx.x; index < level.rows; index += blockDim.x) {
    float score = number(scores[index]);
    if (score >= threshold && score > 0.0f) keep(heads, level, index, score, keys, count);
  }
}

__device__ inline void collect(const Heads& heads, float threshold, int image, Address* keys, int* count) {
  for (int l = 0; l < heads.levels; ++l) {
    const Level& level = heads.level[l];
    if (level.half & 1)
      scan<unsigned short>(heads, level, image, threshold, keys, count);
    else
      scan<float>(heads, level, image, threshold, keys, count);
  }
}

// Sort few keys by counting the smaller ones of each.
__device__ inline void sort_few(Address* keys, int count) {
  __shared__ Address sorted[FEW];
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    Address own = keys[i];
    int rank = 0;
#pragma unroll 8
    for (int j = 0; j < count; ++j) rank += keys[j] < own;
    sorted[rank] = own;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += blockDim.x) keys[i] = sorted[i];
  __syncthreads();
}

// Bitonic sort (Batcher 1968) of the first `count` keys, ascending.
__device__ inline void sort(Address* keys, int count) {
  int size = 2;
  while (size < count) size *= 2;
  for (int i = count + threadIdx.x; i < size; i += blockDim.x) keys[i] = ~(Address)0;
  __syncthreads();
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      for (int i = threadIdx.x; i < size / 2; i += blockDim.x) {
        int low = 2 * i - (i & (step - 1)), high = low + step;
        bool rising = (low & run) == 0;
        if ((keys[low] > keys[high]) == rising) {
          Address other = keys[low];
          keys[low] = keys[high];
          keys[high] = other;
        }
      }
      __syncthreads();
    }
  }
}

__device__ inline const Level& level_of(const Heads& heads, int place) {
  int l = 0;
  while (l + 1 < heads.levels && heads.level[l + 1].first <= place) ++l;
  return heads.level[l];
}

// Position of a row's anchor, in strides.
__device__ inline void anchor_of(const Heads& heads, const Level& level, int row, float* x, float* y) {
  int cell = cell_of(heads, row);
  *x = (float)(cell % level.across * level.stride);
  *y = (float)(cell / level.across * level.stride);
}

__device__ inline float distance(float value) { return value > 0.0f ? value : value == value ? 0.0f : value; }

__device__ inline Box box_of(const Heads& heads, const Frame& frame, int image, int place) {
  const Level& level = level_of(heads, place);
  const Fit& fit = fit_of(frame, level.pass);
  int row = place - level.first;
  float x, y, side[4], stride = (float)level.stride;
  anchor_of(heads, level, row, &x, &y);
  for (int c = 0; c < 4; ++c)
    side[c] = distance(value_of(heads, level, level.box, level.half & 2, image, row, c, 4)) * stride;
  return {(x - side[0]) * fit.back_x, (y - side[1]) * fit.back_y, (x + side[2]) * fit.back_x,
          (y + side[3]) * fit.back_y};
}

__device__ inline float point_of(const Heads& heads, const Frame& frame, int image, int place, int c) {
  const Level& level = level_of(heads, place);
  const Fit& fit = fit_of(frame, level.pass);
  int row = place - level.first;
  float x, y;
  anchor_of(heads, level, row, &x, &y);
  float offset = value_of(heads, level, level.points, level.half & 4, image, row, c, 10) * (float)level.stride;
  return c % 2 ? (offset + y) * fit.back_y : (offset + x) * fit.back_x;
}

__device__ inline bool has_area(const Box& box) { return box.x2 > box.x1 && box.y2 > box.y1; }

// Whether the IoU of two boxes is above a limit: in float if that is decisive, else in double. Disjoint boxes, the most
// frequent case, are tested first.
__device__ inline bool overlap(const Box& a, const Box& b, float limit) {
  if (!((a.x2 > b.x1) & (b.x2 > a.x1) & (a.y2 > b.y1) & (b.y2 > a.y1))) return false;
  float width = fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1), height = fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1);
  float both = width * height;
  float ratio = both / ((a.x2 - a.x1) * (a.y2 - a.y1) + (b.x2 - b.x1) * (b.y2 - b.y1) - both);
  if (ratio < limit - 0.001f || ratio > limit + 0.001f) return ratio > limit;
  double inner = ((double)fminf(a.x2, b.x2) - fmaxf(a.x1, b.x1)) * ((double)fminf(a.y2, b.y2) - fmaxf(a.y1, b.y1));
  double outer = ((double)a.x2 - a.x1) * ((double)a.y2 - a.y1) + ((double)b.x2 - b.x1) * ((double)b.y2 - b.y1) - inner;
  return 1.0f - (float)(1.0 - inner / outer) > limit;
}

// Bits of the candidates that are neither kept nor suppressed yet.
__device__ inline bool is_open(const Address* open, int i) { return open[i / CHUNK] >> (i % CHUNK) & 1; }

__device__ inline void close(Address* open, int i) { atomicAnd(&open[i / CHUNK], ~((Address)1 << (i % CHUNK))); }

// Choose the best open candidates, at most a chunk; return the number of all open candidates.
__device__ inline int choose(const Address* open, int count, int* members) {
  int total = 0;
  for (int word = 0; word * CHUNK < count; ++word) total += __popcll(open[word]);
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    if (!is_open(open, i)) continue;
    int rank = __popcll(open[i / CHUNK] & (((Address)1 << (i % CHUNK)) - 1));
    for (int word = 0; word < i / CHUNK && rank < CHUNK; ++word) rank += __popcll(open[word]);
    if (rank < CHUNK) members[rank] = i;
  }
  return total;
}

// For each candidate of a chunk, the candidates that it suppresses, as bits; a warp compares one with half of the others.
__device__ inline void compare(const Box* chunk, int size, float limit, Address* suppresses) {
  int lane = threadIdx.x % 32;
  for (int task = threadIdx.x / 32; task < 2 * size; task += blockDim.x / 32) {
    int i = task / 2, j = task % 2 * 32 + lane;
    Box one = chunk[i], other = chunk[j];
    unsigned bits = __ballot_sync(0xffffffffu, i < j && j < size && overlap(one, other, limit));
    if (lane == 0) ((unsigned*)&suppresses[i])[task % 2] = bits;
  }
}

// Return the kept candidates of a chunk, from the best on.
__device__ inline Address keep_best(Address open, const Address* suppresses, int space) {
  Address kept = 0;
  for (; open && space > 0; --space) {
    int best = __ffsll((long long)open) - 1;
    kept |= (Address)1 << best;
    open &= ~suppresses[best] & ~((Address)1 << best);
  }
  return kept;
}

__device__ inline bool suppressed_by(const Box* winners, int count, const Box& box, float limit) {
  for (int k = 0; k < count; ++k) {
    Box winner = winners[k];
    if (overlap(winner, box, limit)) return true;
  }
  return false;
}

// Greedy NMS of `count` sorted candidates, one chunk of open candidates per round. Returns the number of kept candidates;
// `kept` receives their indices.
__device__ inline int suppress(const Box* boxes, int count, Address* open, float limit, int most, unsigned short* kept) {
  __shared__ Box chunk[CHUNK], best[CHUNK];
  __shared__ Address suppresses[CHUNK];
  __shared__ Address winners;
  __shared__ int members[CHUNK];
  int total = 0;
  while (total < most) {
    int left = choose(open, count, members);
    if (left == 0) break;
    int size = left < CHUNK ? left : CHUNK;
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK; i += blockDim.x) chunk[i] = boxes[members[i < size ? i : 0]];
    __syncthreads();
    compare(chunk, size, limit, suppresses);
    __syncthreads();
    if (threadIdx.x == 0) {
      Address all = size < CHUNK ? ((Address)1 << size) - 1 : ~(Address)0;
      winners = keep_best(all, suppresses, most - total);
    }
    __syncthreads();
    int won = __popcll(winners);
    for (int i = threadIdx.x; i < size; i += blockDim.x) {
      close(open, members[i]);
      if (winners >> i & 1) {
        int rank = __popcll(winners & (((Address)1 << i) - 1));
        kept[total + rank] = (unsigned short)members[i];
        best[rank] = chunk[i];
      }
    }
    total += won;
    if (left <= CHUNK) break;  // no open candidates are left
    __syncthreads();
    for (int i = members[size - 1] + 1 + threadIdx.x; i < count; i += blockDim.x)
      if (is_open(open, i) && suppressed_by(best, won, boxes[i], limit)) close(open, i);
    __syncthreads();
  }
  return total;
}

// Write the faces, one number per thread. Returns whether all numbers are valid for a face.
__device__ inline bool write(const Heads& heads, const Frame& frame, int image, const Box* boxes, const Address* keys,
                             const unsigned short* kept, int count, float* rows) {
  bool sound = true;
  for (int item = threadIdx.x; item < count * ROW; item += blockDim.x) {
    int index = kept[item / ROW], c = item % ROW;
    int place = (int)(keys[index] & 0xffffffffu);
    float value;
    if (c < 4)
      value = ((const float*)&boxes[index])[c];
    else if (c == 4)
      value = score_of(keys[index]);
    else if (c < 15)
      value = heads.points ? point_of(heads, frame, image, place, c - 5) : 0.0f;
    else
      value = __uint_as_float((unsigned)place);
    if (c < 15 && !(value - value == 0.0f)) sound = false;
    if (c == 4 && value > 1.0f) sound = false;
    rows[item] = value;
  }
  return sound;
}

// Heads of all passes to faces: one block per image.
extern "C" __global__ void __launch_bounds__(1024)
    find_faces(const Batch* batch, int frame_size, Box* workspace, const __grid_constant__ Heads heads) {
  __shared__ Address keys[CANDIDATES];
  __shared__ Address open[CANDIDATES / CHUNK];
  __shared__ unsigned short kept[CANDIDATES];
  __shared__ int count, unsound;
  const int image = blockIdx.x;
  const Frame& frame = frame_of(batch, frame_size, image);
  float* result = (float*)batch->result + (long long)image * (HEADER + batch->room * ROW);
  Box* boxes = workspace + (long long)image * CANDIDATES;
  if (threadIdx.x == 0) count = 0, unsound = 0;
  for (int i = threadIdx.x; i < CANDIDATES / CHUNK; i += blockDim.x) open[i] = 0;
  __syncthreads();
  collect(heads, batch->threshold, image, keys, &count);
  __syncthreads();
  const int found = count;
  int faces = found > CANDIDATES ? -1 : 0;
  if (found > 0 && found <= CANDIDATES) {
    if (found <= FEW)
      sort_few(keys, found);
    else
      sort(keys, found);
    for (int i = threadIdx.x; i < found; i += blockDim.x) {
      Box box = box_of(heads, frame, image, (int)(keys[i] & 0xffffffffu));
      boxes[i] = box;
      if (has_area(box)) atomicOr(&open[i / CHUNK], (Address)1 << (i % CHUNK));
    }
    __syncthreads();
    faces = suppress(boxes, found, open, batch->iou, batch->limit, kept);
    if (faces > batch->room) faces = -1;
    __syncthreads();
    if (!write(heads, frame, image, boxes, keys, kept, faces, result + HEADER)) atomicOr(&unsound, 1);
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    int* header = (int*)result;
    header[0] = found;
    header[1] = faces;
    header[2] = unsound;
  }
}

#define THUMBNAIL_LINES 160  // lines of a plane above which every 2nd, 3rd, ... line and column is read

// Mean of the samples of one cell of a plane, weighted by how much of each is in the cell, rounded as on the host.
template <bool wide>
__device__ inline float mean_of(Address plane, long long row, int column, int width, int height) {
  int step = height / THUMBNAIL_LINES > 1 ? height / THUMBNAIL_LINES : 1;
  int samples = (width + step - 1) / step, lines = (height + step - 1) / step;
  float across = (float)samples / blockDim.x, down = (float)lines / gridDim.x;
  float left = threadIdx.x * across, right = left + across, top = blockIdx.x * down, bottom = top + down;
  float sum = 0.0f;
  for (int y = (int)top; y < bottom && y < lines; ++y) {
    float line = 0.0f;
    for (int x = (int)left; x < right && x < samples; ++x) {
      float share = (x + 1 < right ? x + 1 : right) - (x > left ? x : left);
      line += share * level_at<wide>(plane + (long long)y * step * row + (long long)x * step * column);
    }
    sum += line * ((y + 1 < bottom ? y + 1 : bottom) - (y > top ? y : top));
  }
  return (float)__float2int_rn(sum / (across * down)) * (255.0f / (wide ? 1023 : 255));
}

// A frame in two planes.
struct Planes {
  Address luma, chroma;
  long long row, chroma_row;  // bytes between rows
  int width, height;
  int wide, unused;  // whether levels have 10 bits
};

// Y, U and V of frames to (frames, 3, lines, columns): a thread per column; a block per line, plane and frame.
extern "C" __global__ void thumbnails(const Planes* frames, float* out) {
  const Planes frame = frames[blockIdx.z];
  int item = frame.wide ? 2 : 1, part = blockIdx.y;
  Address plane = part ? frame.chroma + (part - 1) * item : frame.luma;
  long long row = part ? frame.chroma_row : frame.row;
  int width = part ? (frame.width + 1) / 2 : frame.width, height = part ? (frame.height + 1) / 2 : frame.height;
  int column = part ? 2 * item : item;
  out[((blockIdx.z * gridDim.y + part) * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x] =
      frame.wide ? mean_of<true>(plane, row, column, width, height) : mean_of<false>(plane, row, column, width, height);
}
