#!/usr/bin/env bash
# Builds ../assets/echarts.min.js and copies the licences of what it contains. Needs Node.js and npm.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --ignore-scripts
npm run build
cp node_modules/echarts/LICENSE ../licenses/echarts-LICENSE.txt
cp node_modules/echarts/NOTICE ../licenses/echarts-NOTICE.txt
cp node_modules/zrender/LICENSE ../licenses/zrender-LICENSE.txt
cp node_modules/tslib/LICENSE.txt ../licenses/tslib-LICENSE.txt
rm -rf node_modules
