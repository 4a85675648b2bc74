// What the hostile guests of all ABIs have in common: the configuration names what they do, and it is nothing good. None of
// them uses an SDK, so that nothing keeps them from lying.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(#name)))
#pragma clang attribute push(__attribute__((target("bulk-memory"))), apply_to = function) // memory.fill is one of the weapons

static u8 in[1 << 16];
static u8 mode[64];
static u32 mode_len;
static volatile u32 sink;

static int is(const char *name) {
  u32 i = 0;
  for (; name[i]; i++)
    if (i >= mode_len || mode[i] != name[i]) return 0;
  return i == mode_len;
}

__attribute__((noinline)) static u32 recursion(u32 n) {
  sink += n;
  return n == 0 ? 1 : recursion(n - 1) + recursion(n - 1);
}

// abuse does what needs no function of the host.
static void abuse(void) {
  if (is("endless loop"))
    for (;;) sink++;
  if (is("recursion")) recursion(60);
  if (is("deep recursion")) recursion(1 << 30);
  if (is("growth"))
    for (;;) sink += __builtin_wasm_memory_grow(0, 1);
  if (is("fill"))
    for (;;) __builtin_memset(in, (int)sink++, __builtin_wasm_memory_size(0) * 65536 - (u32)in);
  if (is("trap")) __builtin_trap();
}
