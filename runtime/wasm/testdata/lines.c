// Traps in all ways, each in a line that symbols_test.go knows by its comment.

static int table[4];
static volatile int seen;

__attribute__((noinline)) static int store(int i) {
  if (i >= 3) {
    *(volatile int *)0xfffffff0 = 7; // store
  }
  for (int k = 0; k < i; k++) table[k & 3] += k;
  return table[i & 3];
}

static inline __attribute__((always_inline)) int twice(int i) {
  int a = store(i); // called
  return a + store(i - 1);
}

__attribute__((export_name("write"))) int exported_write(int i) {
  return twice(i) + 1; // inlined
}

__attribute__((noinline)) static int divide(int a, int b) {
  a += table[a & 3];
  return a
       / b; // divide
}

__attribute__((export_name("divide"))) int exported_divide(int a) {
  return divide(a, table[1]) + 1; // divided
}

__attribute__((export_name("trap"))) void exported_trap(int i) {
  table[0] = i;
  for (int k = 0; k < i; k++) table[k & 3] += table[(k + 1) & 3];
  if (table[0] == i) table[1]++;
  __builtin_trap(); // trap
}

__attribute__((noinline)) static int spin(int i) {
  for (;;) {
    seen += i;
  }
}

__attribute__((export_name("spin"))) int exported_spin(int i) {
  return spin(i) + 1; // spinning
}
