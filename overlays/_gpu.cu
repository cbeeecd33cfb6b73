// The masks, fills and blending of the overlays on the GPU, as in _masks.py, _filters.py, _pictures.py and _blending.py.
//
// The file needs no header, so that NVRTC alone compiles it; a host compiler does too, in tests/cuda/emulated.cpp.
// Overlays draw on a canvas in BGR, as on the host: `fetch` converts the image's pixels to it, and `store` those that
// were drawn on back. A launch draws faces that touch no common pixel; faces that do are in later launches.

typedef unsigned char Byte;
typedef unsigned long long Address;

enum { BGR, NV12, P010 };                    // Canvas::format
enum { FLAT, MOSAIC, BLUR, PICTURE, PATCH };  // Face::kind
enum { ELLIPSE, RECTANGLE };                 // Face::shape

#define TILE 32    // pixels along each side that a block works on; a thread takes 2×2
#define LEAST 0.01f  // added to masks before rounding, so that none is below the host's
#define DRAWN 0xff000000u  // highest byte of a canvas pixel

struct Plane {
  Address at;
  long long row;  // bytes between rows; the next two: between columns, between channels
  int column, channel;
};

struct Cell {
  float c[4];
};

// An image, and the part of it that is drawn on, in BGR.
struct Canvas {
  Plane y, uv;  // BGR lies in y alone
  int width, height, format;
  float black, light;      // level of luma that is black; 8-bit levels per level of luma
  float blue_u, green_u, green_v, red_v;
  float from_bgr[3][4];    // factors of blue, green and red, and what is added, for Y, U and V
  int left, top, across;     // of the pixels
  unsigned* pixels;
  Cell *cells, *rows;  // averages of pixels, and as many cells for a blur
};

// One face; overlays/_records.py has the same fields.
struct Face {
  Address pixels;                // of a picture's copy, BGRA, or of a patch, BGR
  double x, y;                   // centre of the mask
  double ratio_x, ratio_y;       // cells per pixel
  int row, cells;                // bytes between rows of pixels; the first cell
  int left, top, right, bottom;  // pixels that may change
  int whole_left, whole_top, whole_width, whole_height;  // pixels that are read: those that the cells average
  int across, down;              // cells, or size of the picture's copy
  int first_tile, tiles_across;  // among those of all faces
  int kind, shape, linear, clear;
  float a, b, cos, sin, feather;
  float opacity;
  float color[3];
  float sigma_x, sigma_y;    // 0: the triangular kernel of cv2.stackBlur
  float warp[6];             // from the region's pixels to the picture's
};

__device__ inline int clamp(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

__device__ inline float limit(float value, float high) { return value > 0.0f ? value < high ? value : high : 0.0f; }

__device__ inline Address place(const Plane& plane, int x, int y) {
  return plane.at + y * plane.row + (long long)x * plane.column;
}

__device__ inline float sample(const Canvas& canvas, Address at) {
  return canvas.format == P010 ? (float)(*(const unsigned short*)at >> 6) * 0.25f : (float)*(const Byte*)at;
}

__device__ inline unsigned packed(const Cell& bgr) {
  return (unsigned)rintf(bgr.c[0]) | (unsigned)rintf(bgr.c[1]) << 8 | (unsigned)rintf(bgr.c[2]) << 16;
}

__device__ inline Cell unpacked(unsigned bgr) {
  Cell out = {{(float)(bgr & 255), (float)(bgr >> 8 & 255), (float)(bgr >> 16 & 255), 0.0f}};
  return out;
}

__device__ inline unsigned* pixel_at(const Canvas& canvas, int x, int y) {
  return canvas.pixels + (long long)(y - canvas.top) * canvas.across + (x - canvas.left);
}

// Rounded down, but not if only this computation leaves it below a whole number.
__device__ inline float down(float value) { return floorf(value + 0.001f); }

// Rounded as swscale does, which converts frames for overlays on the host: each term is rounded down.
__device__ inline Cell read(const Canvas& canvas, int x, int y) {
  Address at = place(canvas.y, x, y);
  if (canvas.format == BGR) {
    Cell bgr = {{sample(canvas, at), sample(canvas, at + canvas.y.channel), sample(canvas, at + 2ll * canvas.y.channel)}};
    return bgr;
  }
  Address chroma = place(canvas.uv, x / 2, y / 2);
  float light = down((sample(canvas, at) - canvas.black) * canvas.light);
  float u = sample(canvas, chroma) - 128.0f, v = sample(canvas, chroma + canvas.uv.channel) - 128.0f;
  Cell bgr = {{limit(light + down(u * canvas.blue_u), 255.0f),
               limit(light + down(u * canvas.green_u) + down(v * canvas.green_v), 255.0f),
               limit(light + down(v * canvas.red_v), 255.0f)}};
  return bgr;
}

// Write Y, U or V of a colour. swscale rounds down to 8 bits, but for luma of full range.
__device__ inline void put(const Canvas& canvas, Address at, int component, const Cell& bgr) {
  const float* factors = canvas.from_bgr[component];
  float level = factors[0] * bgr.c[0] + factors[1] * bgr.c[1] + factors[2] * bgr.c[2] + factors[3];
  if (canvas.format == P010)
    *(unsigned short*)at = (unsigned short)((int)rintf(limit(level * 4.0f, 1023.0f)) << 6);
  else
    *(Byte*)at = (Byte)limit(component == 0 && canvas.black == 0.0f ? rintf(level) : down(level), 255.0f);
}

// From 255 on the shape to 0 where its soft edge ends.
__device__ inline int mask_of(const Face& face, int x, int y) {
  double dx = x + 0.5 - face.x, dy = y + 0.5 - face.y;
  float turned_x = (float)(face.cos * dx + face.sin * dy), turned_y = (float)(face.cos * dy - face.sin * dx);
  float extent = (fabsf(face.cos) + fabsf(face.sin)) * 0.5f;  // to the nearest corner of the pixel
  float across = fmaxf(fabsf(turned_x) - extent, 0.0f) / face.a, down = fmaxf(fabsf(turned_y) - extent, 0.0f) / face.b;
  float ramp;
  if (face.shape == RECTANGLE) {
    if (face.feather <= 0.0f) return across < 1.0f && down < 1.0f ? 255 : 0;
    ramp = limit(1.0f - (across - 1.0f) * (face.a / face.feather), 1.0f) *
           limit(1.0f - (down - 1.0f) * (face.b / face.feather), 1.0f);
  } else {
    float inner = across * across + down * down;
    if (face.feather <= 0.0f) return inner < 1.0f + 1e-6f ? 255 : 0;
    float far_x = across * face.a / (face.a + face.feather), far_y = down * face.b / (face.b + face.feather);
    float outer = sqrtf(far_x * far_x + far_y * far_y);
    ramp = limit((1.0f - outer) / fmaxf(sqrtf(inner) - outer + 1e-6f, 1e-6f), 1.0f);
  }
  float t = floorf(limit(255.0f * ramp + 0.5f + LEAST, 255.0f)) / 255.0f;
  return (int)floorf(255.0f * (3.0f - 2.0f * t) * t * t + 0.5f + LEAST);
}

__device__ inline float mix(float low, float high, float share) { return low + (high - low) * share; }

// Between the four nearest cells; the outermost ones go on.
__device__ inline Cell between(const Face& face, const Cell* cells, int x, int y) {
  float u = (float)((x + 0.5) * face.ratio_x - 0.5), v = (float)((y + 0.5) * face.ratio_y - 0.5);
  int left = (int)floorf(u), top = (int)floorf(v);
  float share_x = u - left, share_y = v - top;
  int x0 = clamp(left, 0, face.across - 1), x1 = clamp(left + 1, 0, face.across - 1);
  const Cell* above = cells + (long long)clamp(top, 0, face.down - 1) * face.across;
  const Cell* below = cells + (long long)clamp(top + 1, 0, face.down - 1) * face.across;
  Cell out;
  for (int c = 0; c < 3; ++c)
    out.c[c] = rintf(mix(mix(above[x0].c[c], above[x1].c[c], share_x), mix(below[x0].c[c], below[x1].c[c], share_x), share_y));
  return out;
}

// Distance to the nearer side in image pixels, as a share of a pixel.
__device__ inline float inside(float at, float length, float across, float down) {
  return limit(fminf(at, length - at) / sqrtf(across * across + down * down) + 0.5f, 1.0f);
}

// The picture at one pixel, premultiplied, with its alpha.
__device__ inline Cell picture_at(const Face& face, int x, int y) {
  const float* w = face.warp;
  float u = w[0] * x + w[1] * y + w[2], v = w[3] * x + w[4] * y + w[5];
  int left = (int)floorf(u), top = (int)floorf(v);
  float share_x = u - left, share_y = v - top, kept = face.opacity;
  if (!face.clear)
    kept *= inside(u + 0.5f, (float)face.across, w[0], w[1]) * inside(v + 0.5f, (float)face.down, w[3], w[4]);
  Cell out = {{0, 0, 0, 0}};
  for (int k = 0; k < 4; ++k) {
    int column = left + k % 2, row = top + k / 2;
    float weight = (k % 2 ? share_x : 1.0f - share_x) * (k / 2 ? share_y : 1.0f - share_y);
    if (face.clear && (column < 0 || row < 0 || column >= face.across || row >= face.down)) continue;
    const Byte* at = (const Byte*)face.pixels + (long long)clamp(row, 0, face.down - 1) * face.row +
                     4 * clamp(column, 0, face.across - 1);
    for (int c = 0; c < 4; ++c) out.c[c] += weight * at[c];
  }
  for (int c = 0; c < 4; ++c) out.c[c] = rintf(rintf(out.c[c]) * kept);
  return out;
}

__device__ inline float to_light(float value) {
  value /= 255.0f;
  return value <= 0.04045f ? value / 12.92f : powf((value + 0.055f) / 1.055f, 2.4f);
}

__device__ inline float from_light(float light) {
  return 255.0f * (light <= 0.0031308f ? 12.92f * light : 1.055f * powf(light, 1.0f / 2.4f) - 0.055f);
}

#define LIGHT_STEPS 16384.0f  // as on the host

// A colour over another one, rounded as on the host; alpha is above 0.
__device__ inline Cell blend(const Cell& below, const Cell& above, float alpha, bool linear) {
  if (alpha >= 255.0f) return above;
  Cell out;
  for (int c = 0; c < 3; ++c)
    out.c[c] = linear ? from_light(rintf(mix(to_light(below.c[c]), to_light(above.c[c]), alpha / 255.0f) * LIGHT_STEPS) / LIGHT_STEPS)
                      : rintf(above.c[c] * alpha / 255.0f) + rintf(below.c[c] * (255.0f - alpha) / 255.0f);
  return out;
}

// Draw one pixel of a face; return whether it changes.
__device__ inline bool draw(const Face& face, const Cell* cells, int x, int y, Cell* color) {
  if (x < face.left || x >= face.right || y < face.top || y >= face.bottom) return false;
  int column = x - face.left, row = y - face.top;
  if (face.kind == PICTURE) {
    Cell above = picture_at(face, column, row);
    float alpha = above.c[3];
    if (alpha <= 0.0f) return false;
    for (int c = 0; c < 3; ++c) above.c[c] = fminf(above.c[c] * 255.0f / alpha, 255.0f);
    *color = blend(*color, above, alpha, face.linear);
    return true;
  }
  if (face.kind == PATCH) {
    const Byte* after = (const Byte*)face.pixels + (long long)row * face.row + 3ll * column;
    bool changed = false;
    for (int c = 0; c < 3; ++c) {
      changed |= color->c[c] != after[c];
      color->c[c] = after[c];
    }
    return changed;
  }
  float alpha = rintf(mask_of(face, x, y) * face.opacity);
  if (alpha <= 0.0f) return false;
  Cell above;
  int across = x - face.whole_left, down = y - face.whole_top;
  if (face.kind == FLAT)
    for (int c = 0; c < 3; ++c) above.c[c] = face.color[c];
  else if (face.kind == BLUR)
    above = between(face, cells + face.cells, across, down);
  else
    above = cells[face.cells + (long long)clamp((int)(down * face.ratio_y), 0, face.down - 1) * face.across +
                  clamp((int)(across * face.ratio_x), 0, face.across - 1)];
  *color = blend(*color, above, alpha, face.linear);
  return true;
}

// The face that has a tile.
__device__ inline const Face& face_of(const Face* faces, int count, int tile) {
  int low = 0, high = count;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    (faces[middle].first_tile <= tile ? low : high) = middle;
  }
  return faces[low];
}

// Do work for the 2×2 pixels of a thread, which share their chroma, in a tile of a face.
template <class Work>
__device__ inline void for_pixels(const Face* faces, int count, int tile, const Canvas& canvas, Work work) {
  const Face& face = face_of(faces, count, tile);
  tile -= face.first_tile;
  int x = (face.whole_left & ~1) + tile % face.tiles_across * TILE + 2 * (int)threadIdx.x;
  int y = (face.whole_top & ~1) + tile / face.tiles_across * TILE + 2 * (int)threadIdx.y;
  if (x >= face.whole_left + face.whole_width || y >= face.whole_top + face.whole_height) return;
  for (int k = 0; k < 4; ++k) {
    int column = x + k % 2, row = y + k / 2;
    if (column < canvas.width && row < canvas.height) work(face, column, row, pixel_at(canvas, column, row));
  }
}

// Convert the pixels of faces to the canvas. Kernels take all faces, and the first tile or face of a launch.
extern "C" __global__ void fetch(const Face* faces, int count, int start, const __grid_constant__ Canvas canvas) {
  for_pixels(faces, count, start + (int)blockIdx.x, canvas, [&](const Face&, int x, int y, unsigned* pixel) {
    *pixel = packed(read(canvas, x, y));
  });
}

extern "C" __global__ void paint(const Face* faces, int count, int start, const __grid_constant__ Canvas canvas) {
  for_pixels(faces, count, start + (int)blockIdx.x, canvas, [&](const Face& face, int x, int y, unsigned* pixel) {
    Cell color = unpacked(*pixel);
    if (draw(face, canvas.cells, x, y, &color)) *pixel = packed(color) | DRAWN;
  });
}

// Write what was drawn to the image. Chroma changes with any of its four pixels, and is that of their mean.
extern "C" __global__ void store(const Face* faces, int count, int start, const __grid_constant__ Canvas canvas) {
  Cell sum = {{0, 0, 0, 0}};
  int chroma_x = -1, chroma_y = -1;
  for_pixels(faces, count, start + (int)blockIdx.x, canvas, [&](const Face&, int x, int y, unsigned* pixel) {
    Cell color = unpacked(*pixel);
    if (*pixel & DRAWN) {
      chroma_x = x / 2, chroma_y = y / 2;
      Address at = place(canvas.y, x, y);
      if (canvas.format != BGR)
        put(canvas, at, 0, color);
      else
        for (int c = 0; c < 3; ++c) *(Byte*)(at + (long long)c * canvas.y.channel) = (Byte)color.c[c];
    }
    for (int c = 0; c < 3; ++c) sum.c[c] += color.c[c];
    sum.c[3] += 1.0f;
  });
  if (chroma_x < 0 || canvas.format == BGR) return;
  for (int c = 0; c < 3; ++c) sum.c[c] /= sum.c[3];
  Address at = place(canvas.uv, chroma_x, chroma_y);
  put(canvas, at, 1, sum);
  put(canvas, at + canvas.uv.channel, 2, sum);
}

// Copy the pixels of regions to their patches.
extern "C" __global__ void gather(const Face* faces, int count, int start, const __grid_constant__ Canvas canvas) {
  for_pixels(faces, count, start + (int)blockIdx.x, canvas, [&](const Face& face, int x, int y, unsigned* pixel) {
    if (x < face.left || x >= face.right || y < face.top || y >= face.bottom) return;
    Byte* out = (Byte*)face.pixels + (long long)(y - face.top) * face.row + 3ll * (x - face.left);
    for (int c = 0; c < 3; ++c) out[c] = (Byte)(*pixel >> 8 * c);
  });
}

// Part of a pixel that lies between two places.
__device__ inline float part(double from, double to, int pixel) {
  return (float)(fmin(to, pixel + 1.0) - fmax(from, (double)pixel));
}

// One pass of the blur over a line of cells.
__device__ inline Cell soften_along(const Cell* line, int at, int length, long long step, float sigma) {
  int radius = sigma > 0.0f ? ((int)rintf(6.0f * sigma + 1.0f) | 1) / 2 : 3;
  Cell sum = {{0, 0, 0, 0}};
  for (int k = -radius; k <= radius; ++k) {
    int index = at + k;
    float weight = sigma > 0.0f ? expf(-0.5f * k * k / (sigma * sigma)) : (float)(4 - (k < 0 ? -k : k));
    if (sigma > 0.0f)  // mirrored, and the triangular kernel repeats the outermost cell
      while (index < 0 || index >= length) index = index < 0 ? -1 - index : 2 * length - 1 - index;
    const Cell& cell = line[clamp(index, 0, length - 1) * step];
    for (int c = 0; c < 3; ++c) sum.c[c] += weight * cell.c[c];
    sum.c[3] += weight;
  }
  for (int c = 0; c < 3; ++c) sum.c[c] = sigma > 0.0f ? sum.c[c] / sum.c[3] : floorf(sum.c[c] / 16.0f);
  return sum;
}

// Average the pixels of each cell, by the threads along x, at most a warp, and blur the cells: one block per face.
extern "C" __global__ void __launch_bounds__(1024) average(const Face* faces, int count, int start,
                                                            const __grid_constant__ Canvas canvas) {
  const Face& face = faces[start + (int)blockIdx.x];
  int size = face.across * face.down, lanes = blockDim.x, threads = lanes * blockDim.y;
  int thread = threadIdx.y * lanes + threadIdx.x;
  Cell* own = canvas.cells + face.cells;
  Cell* half = canvas.rows + face.cells;
  for (int number = threadIdx.y; number < size; number += blockDim.y) {
    int column = number % face.across, row = number / face.across;
    double left = (double)column * face.whole_width / face.across, right = (column + 1.0) * face.whole_width / face.across;
    double top = (double)row * face.whole_height / face.down, bottom = (row + 1.0) * face.whole_height / face.down;
    int first_x = (int)left, first_y = (int)top;
    int wide = (int)ceil(right) - first_x, pixels = wide * ((int)ceil(bottom) - first_y);
    Cell sum = {{0, 0, 0, 0}};
    for (int k = threadIdx.x; k < pixels; k += lanes) {
      int x = first_x + k % wide, y = first_y + k / wide;
      float weight = part(left, right, x) * part(top, bottom, y);
      Cell color = unpacked(*pixel_at(canvas, face.whole_left + x, face.whole_top + y));
      for (int c = 0; c < 3; ++c) sum.c[c] += weight * color.c[c];
      sum.c[3] += weight;
    }
    for (int step = lanes / 2; step > 0; step /= 2)
      for (int c = 0; c < 4; ++c) sum.c[c] += __shfl_xor_sync(0xffffffffu, sum.c[c], step);
    for (int c = 0; c < 3; ++c) sum.c[c] = rintf(sum.c[c] / sum.c[3]);
    if (threadIdx.x == 0) own[number] = sum;
  }
  if (face.kind != BLUR) return;
  __syncthreads();
  for (int k = thread; k < size; k += threads)
    half[k] = soften_along(own + k / face.across * face.across, k % face.across, face.across, 1, face.sigma_x);
  __syncthreads();
  for (int k = thread; k < size; k += threads) {
    Cell soft = soften_along(half + k % face.across, k / face.across, face.down, face.across, face.sigma_y);
    for (int c = 0; c < 3; ++c) soft.c[c] = rintf(soft.c[c]);
    own[k] = soft;
  }
}
