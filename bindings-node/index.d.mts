// The same declarations for `import`; the two module systems share one instance of everything.
export * from './index.js';
