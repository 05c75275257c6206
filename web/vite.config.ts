/**
 * Builds the dashboard's pages into dist/web, from where the coordinator serves them: one script, one style sheet, nothing
 * inline and nothing from elsewhere, so that the strictest content security policy holds. Each has a gzip twin beside it,
 * made once here rather than for every request.
 */
import { gzipSync } from 'node:zlib';
import { defineConfig, type Plugin } from 'vite';

const gzipTwins: Plugin = {
  name: 'gzip-twins',
  generateBundle: {
    order: 'post',
    handler(_options, bundle) {
      for (const [fileName, file] of Object.entries(bundle)) {
        const source = gzipSync(file.type === 'chunk' ? file.code : file.source, { level: 9 });
        this.emitFile({ type: 'asset', fileName: `${fileName}.gz`, source });
      }
    },
  },
};

export default defineConfig({
  root: import.meta.dirname,
  base: './',
  plugins: [gzipTwins],
  build: {
    outDir: '../dist/web',
    // Written over rather than removed, under names that stay: a coordinator may be serving from it.
    emptyOutDir: false,
    rolldownOptions: {
      output: { entryFileNames: 'assets/[name].js', assetFileNames: 'assets/[name][extname]' },
    },
    target: 'es2022',
    // The oldest that know light-dark(); older targets get it taken apart, and twice the style sheet.
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
    // Data addresses would need an exception in the policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
